// The Worker that run.mjs runs in workerd; it records as the README shows.

import { Recorder } from "tallyd";

export default {
  async fetch(_request, env, context) {
    const recorder = new Recorder({ endpoint: env.ENDPOINT, token: env.TOKEN, app: env.APP });
    for (let at = 0; at < Number(env.BURST); at += 1) recorder.record({ provider: "rentcast", request_id: String(at) });
    context.waitUntil(recorder.close(30_000));
    return new Response("done");
  },
};
