// Every view, in the order of the menu.

import type { ComponentType } from "preact";
import { Costs } from "./costs";

interface View {
  id: string;
  label: string;
  /** A path of a 16 by 16 drawing. */
  icon: string;
  view: ComponentType;
}

export const VIEWS: View[] = [
  { id: "costs", label: "Costs", icon: "M2.5 13.5h11M4 11V7m4 4V3m4 8V6", view: Costs },
];
