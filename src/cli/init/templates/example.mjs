// Records one call: set -a; . ./tallyd.env; node tallyd-example.mjs
import { Recorder } from "tallyd";

const recorder = new Recorder({ app: "example" }); // TALLYD_ENDPOINT, and TALLYD_TOKEN over TCP
const { id, cost_usd } = await recorder.recordAndWait({
  provider: "claude",
  model: "claude-sonnet-5",
  input_tokens: 1200,
  output_tokens: 350,
});
console.log(`call ${id} is durable, and cost ${cost_usd} USD`);
await recorder.close();
