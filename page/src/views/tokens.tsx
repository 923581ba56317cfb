// Tokens for the HTTP API: listed, created and shown once, revoked. For admins.

import { useState } from "preact/hooks";
import { Failure, change, get, url } from "../api";
import { instant } from "../format";
import { useLive } from "../live";
import { pick } from "../measures";
import { amend, useRoute } from "../route";
import { useSession } from "../session";
import { Badge, Card, Choice, Dialog, Empty, Head, Loaded, Problem } from "../ui/parts";
import { type Column, Pager, Table } from "../ui/table";

interface Token {
  id: number;
  name: string;
  role: Role;
  created_at: string;
  created_by: string;
  expires_at: string | null;
  revoked_at: string | null;
  stated_costs: string | null;
}

interface Created {
  id: number;
  name: string;
  token: string;
}

type Role = "admin" | "read" | "ingest";

const PAGE = 50;
const SHOW = [["now", "In force"], ["all", "All"]] as const;
const ROLES: readonly (readonly [Role, string])[] = [["read", "read: asks, and changes nothing"], ["ingest", "ingest: sends records and deploys, and asks nothing"], ["admin", "admin: everything"]];
const COSTS = [["", "As configured"], ["non_negative", "From 0 up"], ["refuse", "None"]] as const;

function stateOf(token: Token): ["In force" | "Revoked" | "Expired", "good" | "plain"] {
  if (token.revoked_at !== null) return ["Revoked", "plain"];
  return token.expires_at !== null && Date.parse(token.expires_at) <= Date.now() ? ["Expired", "plain"] : ["In force", "good"];
}

export function Tokens() {
  const { query } = useRoute();
  const { zone, actor } = useSession();
  const show = pick(SHOW, query.get("show"), "now");
  const [before, setBefore] = useState<number[]>([]);
  const [creating, setCreating] = useState(false);
  const [failure, setFailure] = useState<Failure | null>(null);
  const [done, setDone] = useState<string | null>(null);
  const path = url("/api/v1/tokens", { in_force: show === "now" || null, before: before[before.length - 1], limit: PAGE });
  const live = useLive<{ tokens: Token[]; next: number | null }>(path, (signal) => get(path, signal), 15_000);
  const isMine = (token: Token) => actor.startsWith(`token:${token.id} `);
  const revoke = async (token: Token) => {
    const mine = isMine(token) ? " This page is signed in with it, and will be signed out." : "";
    if (!confirm(`Revoke the token ${token.name}? Every daemon refuses it within two seconds.${mine}`)) return;
    try {
      await change("DELETE", `/api/v1/tokens/${token.id}`);
      setFailure(null);
      setDone(`The token ${token.name} was revoked.`);
      live.reload();
    } catch (error) {
      setFailure(error as Failure);
    }
  };
  const columns: Column<Token>[] = [
    { key: "name", label: "Name", cell: (token) => <span class="breaks">{token.name} {isMine(token) && <span class="fine">this session</span>}</span> },
    { key: "role", label: "Role", cell: (token) => <span><Badge tone={token.role === "admin" ? "warn" : "plain"}>{token.role}</Badge>{token.stated_costs && <span class="fine"> stated costs: {COSTS.find(([name]) => name === token.stated_costs)?.[1].toLowerCase() ?? token.stated_costs}</span>}</span> },
    { key: "state", label: "State", wide: show === "now", cell: (token) => <Badge tone={stateOf(token)[1]}>{stateOf(token)[0]}</Badge> },
    { key: "created", label: "Created", wide: true, cell: (token) => <span>{instant(token.created_at, zone).slice(0, 16)} <span class="fine">{token.created_by}</span></span> },
    { key: "ends", label: "Ends", cell: (token) => <span class="when">{token.revoked_at ?? token.expires_at ? instant(token.revoked_at ?? token.expires_at, zone).slice(0, 16) : <span class="fine">never</span>}</span> },
    { key: "tools", label: <span class="hidden">Revoke</span>, number: true, cell: (token) => stateOf(token)[0] === "In force" && <button type="button" class="danger" aria-label={`Revoke the token ${token.name}`} onClick={() => void revoke(token)}>Revoke</button> },
  ];
  return (
    <>
      <Head title="Tokens" lead="Access to the API and to this page. A token’s text is shown once; the database has its hash alone." live={live}>
        <button type="button" class="primary" onClick={() => setCreating(true)}>Create a token</button>
        <Choice label="Which tokens" value={show} options={SHOW} onPick={(value) => { setBefore([]); amend({ show: value === "now" ? null : value }); }} />
      </Head>
      {failure && <Problem failure={failure} />}
      {done && <p class="notice good" role="status">{done}</p>}
      <Loaded live={live} rows={6}>
        {({ tokens, next }) => tokens.length === 0 ? <Empty title="No tokens">Create one for a program, such as Grafana or a CI job.</Empty> : (
          <Card>
            <Table caption="Tokens" columns={columns} rows={tokens} id={(token) => String(token.id)} />
            <Pager text="Newest first" onBack={before.length > 0 ? () => setBefore(before.slice(0, -1)) : undefined} onNext={next === null ? undefined : () => setBefore([...before, next])} />
          </Card>
        )}
      </Loaded>
      {creating && <CreateToken onClose={() => setCreating(false)} onCreated={() => { setDone(null); live.reload(); }} />}
    </>
  );
}

function CreateToken({ onClose, onCreated }: { onClose: () => void; onCreated: () => void }) {
  const [role, setRole] = useState<Role>("read");
  const [made, setMade] = useState<Created | null>(null);
  const [failure, setFailure] = useState<Failure | null>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const days = String(form.get("days") ?? "");
    setBusy(true);
    try {
      setMade(await change<Created>("POST", "/api/v1/tokens", {
        name: String(form.get("name")), role, expires_days: days === "" ? null : Number(days), stated_costs: String(form.get("costs") ?? "") || null,
      }));
      setFailure(null);
      onCreated();
    } catch (error) {
      setFailure(error as Failure);
    }
    setBusy(false);
  };
  if (made) return <Dialog title={`Token ${made.name}`} onClose={onClose}><Shown made={made} onClose={onClose} /></Dialog>;
  return (
    <Dialog title="Create a token" onClose={onClose}>
      <form onSubmit={(event) => void submit(event)}>
        {failure && <Problem failure={failure} />}
        <div class="form">
          <label class="whole">Name <input name="name" required maxLength={100} autocomplete="off" placeholder="grafana" /></label>
          <label class="whole">Role <select name="role" value={role} onChange={(event) => setRole(event.currentTarget.value as Role)}>{ROLES.map(([value, label]) => <option key={value} value={value}>{label}</option>)}</select></label>
          <label>Ends after days <input name="days" type="number" min={1} max={3650} placeholder="never" /></label>
          {role === "ingest" && <label>Costs that it may state <select name="costs">{COSTS.map(([value, label]) => <option key={value} value={value}>{label}</option>)}</select></label>}
        </div>
        <div class="actions"><button type="button" onClick={onClose}>Cancel</button><button type="submit" class="primary" disabled={busy}>Create</button></div>
      </form>
    </Dialog>
  );
}

/** The text of a new token, which nobody can see again. */
function Shown({ made, onClose }: { made: Created; onClose: () => void }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(made.token);
      setCopied(true);
    } catch { /* Without the right to the clipboard, the text can be marked. */ }
  };
  return (
    <>
      <p class="notice warn">Keep it now: only its hash is stored, and nobody can see it again.</p>
      <pre class="payload" tabIndex={0} aria-label="The token">{made.token}</pre>
      <p class="footnote">Programs send it as <code>Authorization: Bearer …</code></p>
      <div class="actions">
        <span class="fine" role="status">{copied && "Copied"}</span>
        <button type="button" onClick={() => void copy()}>Copy</button>
        <button type="button" class="primary" onClick={onClose}>Done</button>
      </div>
    </>
  );
}
