// A reporting time zone in which it is noon, so that no day ends during a test.
const AHEAD = 12 - new Date().getUTCHours();
export const ZONE = `Etc/GMT${AHEAD > 0 ? "-" : "+"}${Math.abs(AHEAD)}`;
export const local = (at) => new Date(at.getTime() + AHEAD * 3_600_000);
export const today = () => local(new Date()).toISOString().slice(0, 10);
export const addDays = (day, days) => new Date(Date.parse(`${day}T00:00:00Z`) + days * 86_400_000).toISOString().slice(0, 10);
/** An instant by that zone's clock. */
export const at = (day, time) => new Date(Date.parse(`${day}T${time}:00Z`) - AHEAD * 3_600_000).toISOString();
