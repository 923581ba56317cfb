// The admin tab of a front end that was written for the replaced system. It is React code, and does what such tabs do: lists go through
// `.map`, numbers through `.toFixed` and `.toLocaleString`, objects through `Object.entries`, dates through `new Date`. It checks nothing that
// the replaced system promised, so an answer of another shape throws, or shows "NaN", "undefined" or "null".
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";

const { api, token } = globalThis.SETTINGS;

async function ask(path, options = {}) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const answer = await fetch(`${api}${path}`, { ...options, headers });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return { data: await answer.json(), headers: answer.headers };
}

/** The answer to a path; asked again when `turn` changes. */
function useAnswer(path, turn = 0) {
  const [answer, setAnswer] = useState(null);
  useEffect(() => void ask(path).then(setAnswer), [path, turn]);
  return answer;
}

const usd = (amount) => `$${amount.toFixed(4)}`;
const when = (text) => (text ? new Date(text).toISOString() : "Never");

function Section({ name, children }) {
  return <section id={name}><h2>{name}</h2>{children}</section>;
}

function Day({ day }) {
  return (
    <div class="day">
      <h3>{new Date(`${day.date}T00:00:00Z`).toISOString().slice(0, 10)}</h3>
      <p>Total {usd(day.totalCost)} in {day.totalCalls.toFixed(0)} calls</p>
      <p>Claude {usd(day.claudeCost)} in {day.claudeCalls.toFixed(0)}</p>
      <p>RentCast {usd(day.rentcastCost)} in {day.rentcastCalls.toFixed(0)}</p>
      <ul>
        {Object.entries(day.byModel).map(([model, { calls, cost, inputTokens, outputTokens }]) => (
          <li key={model}>{model}: {calls.toFixed(0)} calls, {usd(cost)}, {inputTokens.toLocaleString()} in, {outputTokens.toLocaleString()} out</li>
        ))}
      </ul>
      <ul>
        {Object.entries(day.byRentCastEndpoint).map(([endpoint, { calls, cost }]) => <li key={endpoint}>{endpoint}: {calls.toFixed(0)} calls, {usd(cost)}</li>)}
      </ul>
    </div>
  );
}

function Costs() {
  const [turn, setTurn] = useState(0);
  const answer = useAnswer("/api/admin/costs", turn);
  if (!answer) return <p>Loading</p>;
  const { today, dailyBudget, budgetPercent, remaining, shouldThrottle, status } = answer.data;
  const save = async (event) => {
    event.preventDefault();
    const budget = Number(new FormData(event.target).get("budget"));
    await ask("/api/admin/budget", { method: "POST", body: JSON.stringify({ budget }) });
    setTurn(turn + 1);
  };
  return (
    <Section name="costs">
      <Day day={today} />
      <p>Budget {usd(dailyBudget)}, {budgetPercent.toFixed(1)} % used, {usd(remaining)} left</p>
      <p class={`status ${status}`}>{status.toUpperCase()}{shouldThrottle === true && ", hold back"}</p>
      <form onSubmit={save}><input name="budget" aria-label="Budget" /><button type="submit">Save the budget</button></form>
    </Section>
  );
}

function History() {
  const answer = useAnswer("/api/admin/cost-history?days=30");
  if (!answer) return <p>Loading</p>;
  const days = answer.data;
  const spent = days.reduce((sum, day) => sum + day.totalCost, 0);
  const newestFirst = [...days].sort((a, b) => b.date.localeCompare(a.date));
  return (
    <Section name="history">
      <p>{days.length.toFixed(0)} days, {usd(spent)}, {newestFirst.every((day, at) => day === days[at]) ? "newest first" : "in disorder"}</p>
      {days.map((day) => <Day key={day.date} day={day} />)}
    </Section>
  );
}

function Users() {
  const answer = useAnswer("/api/user/all?limit=2");
  const [search, setSearch] = useState("");
  const all = useAnswer("/api/user/all");
  if (!answer || !all) return <p>Loading</p>;
  const found = all.data.filter((user) => user.email.toLowerCase().includes(search));
  return (
    <Section name="users">
      <p>{answer.data.length.toFixed(0)} of {Number(answer.headers.get("X-Total-Count")).toFixed(0)} users on the first page</p>
      <input aria-label="Search" onInput={(event) => setSearch(event.target.value.toLowerCase())} />
      <table>
        <tbody>
          {found.map((user) => (
            <tr key={user.id}>
              <td>{user.email}</td>
              <td>{user.tier.toUpperCase()}</td>
              <td>{user.is_admin === true ? "Admin" : user.is_admin === false ? "Member" : "?!"}</td>
              <td>{user.analyses_today.toFixed(0)} today</td>
              <td>{user.claude_calls_this_hour.toFixed(0)} this hour</td>
              <td>{user.total_claude_calls.toFixed(0)} Claude</td>
              <td>{user.total_rentcast_calls.toFixed(0)} RentCast</td>
              <td>{user.total_calls.toFixed(0)} calls</td>
              <td>{usd(user.total_cost)}</td>
              <td>last analysis {when(user.last_analysis)}</td>
              <td>last Claude call {when(user.last_claude_call)}</td>
              <td>since {when(user.created_at)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Section>
  );
}

function Stats() {
  const answer = useAnswer("/api/admin/user-stats");
  if (!answer) return <p>Loading</p>;
  return (
    <Section name="stats">
      <p>{answer.data.length.toFixed(0)} users</p>
      <ul>
        {answer.data.map(({ userId, totalCalls, claudeCalls, rentcastCalls, analysisCalls }) => (
          <li key={userId}>
            {userId.slice(0, 12)}: {totalCalls.toFixed(0)} calls, {claudeCalls.toFixed(0)} Claude, {rentcastCalls.toFixed(0)} RentCast, {analysisCalls.toFixed(0)} analyses
          </li>
        ))}
      </ul>
    </Section>
  );
}

function Metrics() {
  const answer = useAnswer("/api/admin/metrics");
  if (!answer) return <p>Loading</p>;
  const { sessions, today, totalCalls, totalClaudeCalls, totalRentcastCalls, totalCost, totalUsers, uptimeSeconds } = answer.data;
  return (
    <Section name="metrics">
      <p>{sessions.active.toFixed(0)} active of {sessions.total.toFixed(0)} sessions</p>
      <ul>{Object.entries(sessions.byTier).map(([tier, count]) => <li key={tier}>{tier}: {count.toFixed(0)} active</li>)}</ul>
      <p>{totalCalls.toFixed(0)} calls, {totalClaudeCalls.toFixed(0)} Claude, {totalRentcastCalls.toFixed(0)} RentCast, {usd(totalCost)}, {totalUsers.toFixed(0)} users</p>
      <p>Up {(uptimeSeconds / 3600).toFixed(1)} h</p>
      <Day day={today} />
    </Section>
  );
}

function Pricing() {
  const [turn, setTurn] = useState(0);
  const answer = useAnswer("/api/admin/pricing", turn);
  if (!answer) return <p>Loading</p>;
  const { claude, rentcast } = answer.data;
  const save = async (event) => {
    event.preventDefault();
    const costPerRequest = Number(new FormData(event.target).get("cost"));
    await ask("/api/admin/rentcast-cost", { method: "POST", body: JSON.stringify({ costPerRequest }) });
    setTurn(turn + 1);
  };
  return (
    <Section name="pricing">
      <ul>
        {Object.entries(claude).map(([model, { inputPerMToken, outputPerMToken }]) => (
          <li key={model}>{model}: ${inputPerMToken.toFixed(2)} in, ${outputPerMToken.toFixed(2)} out</li>
        ))}
      </ul>
      <p>RentCast ${rentcast.costPerRequest.toFixed(3)} a request</p>
      <ul>
        {["developer", "foundation", "growth", "scale"].map((plan) => {
          const { monthly, included, overage } = rentcast.plans[plan];
          return <li key={plan}>{plan}: ${monthly.toFixed(2)} a month, {included.toLocaleString()} included, ${overage.toFixed(3)} each beyond</li>;
        })}
      </ul>
      <form onSubmit={save}><input name="cost" aria-label="Cost of a request" /><button type="submit">Save the cost</button></form>
    </Section>
  );
}

function Tab() {
  return <main><Costs /><History /><Users /><Stats /><Metrics /><Pricing /></main>;
}

createRoot(document.getElementById("root")).render(<Tab />);
