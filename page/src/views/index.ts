// Every view, in the order of the menu.

import type { ComponentType } from "preact";
import { Alerts } from "./alerts";
import { Audit } from "./audit";
import { Bills } from "./bills";
import { Budgets } from "./budgets";
import { Costs } from "./costs";
import { Letters } from "./letters";
import { Overview } from "./overview";
import { Pipeline } from "./pipeline";
import { Prices } from "./prices";
import { Records } from "./records";
import { Reports } from "./reports";
import { AlertRules } from "./rules";
import { Sessions } from "./sessions";
import { Tokens } from "./tokens";
import { Users } from "./users";

export interface View {
  id: string;
  label: string;
  /** A path of a 16 by 16 drawing. */
  icon: string;
  view: ComponentType;
  /** Shown to admins alone. */
  admin?: boolean;
}

export const VIEWS: View[] = [
  { id: "overview", label: "Overview", icon: "M2.5 2.5h4.5v5h-4.5zM9 2.5h4.5v3H9zM9 8h4.5v5.5H9zM2.5 10h4.5v3.5h-4.5z", view: Overview },
  { id: "costs", label: "Costs", icon: "M2.5 13.5h11M4.5 11V7m3.5 4V3m3.5 8V5.5", view: Costs },
  { id: "users", label: "Users", icon: "M8 7.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM3 13.5c.4-2.6 2.4-4 5-4s4.6 1.4 5 4", view: Users },
  { id: "sessions", label: "Sessions", icon: "M8 14a6 6 0 1 0 0-12 6 6 0 0 0 0 12zM8 4.5V8l2.5 1.5", view: Sessions },
  { id: "budgets", label: "Budgets", icon: "M2.5 11.5a5.5 5.5 0 0 1 11 0zM8 11.5l2.5-3.5", view: Budgets },
  { id: "alerts", label: "Alerts", icon: "M8 2v1.2M4.2 11.5h7.6l-1-1.8V7.3a2.8 2.8 0 0 0-5.6 0v2.4zM6.8 13.6h2.4", view: Alerts },
  { id: "rules", label: "Alert rules", icon: "M2.5 4h7M12.5 4h1M2.5 8h2M7.5 8h6M2.5 12h7M12.5 12h1M11 2.5v3M6 6.5v3M11 10.5v3", view: AlertRules },
  { id: "reports", label: "Reports", icon: "M3.5 1.8h6l3 3v9.4h-9zM9.5 1.8v3h3M6 8h4M6 10.8h4", view: Reports },
  { id: "prices", label: "Prices", icon: "M8 2.5h5.5V8L7.5 14 2 8.5zM10.7 5.3h.01", view: Prices },
  { id: "bills", label: "Vendor bills", icon: "M3.5 1.8h9v12.4l-2.2-1.4-2.3 1.4-2.3-1.4-2.2 1.4zM6 5.5h4M6 8.2h4", view: Bills },
  { id: "records", label: "Records", icon: "M2.5 4h11M2.5 8h11M2.5 12h7", view: Records },
  { id: "dead-letters", label: "Dead letters", icon: "M2 4h12v8.5H2zM2 4.5l6 4.5 6-4.5", view: Letters },
  { id: "pipeline", label: "Pipeline", icon: "M2 8h2.5l2-5 3 10 2-5H14", view: Pipeline },
  { id: "tokens", label: "Tokens", icon: "M10.5 2a3.5 3.5 0 1 0-3.3 4.7L2 12v2h3v-2h2v-2h1.5l1-1.3A3.5 3.5 0 0 0 10.5 2zM11 5h.01", view: Tokens, admin: true },
  { id: "changes", label: "Audit log", icon: "M3 13l1-3.5L10.5 3 13 5.5 6.5 12z", view: Audit },
];
