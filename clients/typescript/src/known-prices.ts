// The prices that were in force when this was released, as the daemon's catalog has them. Written by prices.mjs.

import type { PricingInfo } from "./answers.js";

export const KNOWN_PRICES: PricingInfo = {
  "claude": {
    "claude-2": {
      "inputPerMToken": 8,
      "outputPerMToken": 24,
      "cacheReadPerMToken": null,
      "cacheWrite5mPerMToken": null,
      "cacheWrite1hPerMToken": null,
      "above": []
    },
    "claude-3-5-haiku": {
      "inputPerMToken": 0.8,
      "outputPerMToken": 4,
      "cacheReadPerMToken": 0.08,
      "cacheWrite5mPerMToken": 1,
      "cacheWrite1hPerMToken": 1.6,
      "above": []
    },
    "claude-3-5-sonnet": {
      "inputPerMToken": 3,
      "outputPerMToken": 15,
      "cacheReadPerMToken": 0.3,
      "cacheWrite5mPerMToken": 3.75,
      "cacheWrite1hPerMToken": 6,
      "above": []
    },
    "claude-3-7-sonnet": {
      "inputPerMToken": 3,
      "outputPerMToken": 15,
      "cacheReadPerMToken": 0.3,
      "cacheWrite5mPerMToken": 3.75,
      "cacheWrite1hPerMToken": 6,
      "above": []
    },
    "claude-3-haiku": {
      "inputPerMToken": 0.25,
      "outputPerMToken": 1.25,
      "cacheReadPerMToken": 0.03,
      "cacheWrite5mPerMToken": 0.3,
      "cacheWrite1hPerMToken": 0.5,
      "above": []
    },
    "claude-3-opus": {
      "inputPerMToken": 15,
      "outputPerMToken": 75,
      "cacheReadPerMToken": 1.5,
      "cacheWrite5mPerMToken": 18.75,
      "cacheWrite1hPerMToken": 30,
      "above": []
    },
    "claude-3-sonnet": {
      "inputPerMToken": 3,
      "outputPerMToken": 15,
      "cacheReadPerMToken": 0.3,
      "cacheWrite5mPerMToken": 3.75,
      "cacheWrite1hPerMToken": 6,
      "above": []
    },
    "claude-fable-5": {
      "inputPerMToken": 10,
      "outputPerMToken": 50,
      "cacheReadPerMToken": 1,
      "cacheWrite5mPerMToken": 12.5,
      "cacheWrite1hPerMToken": 20,
      "above": []
    },
    "claude-fable-5-1": {
      "inputPerMToken": 10,
      "outputPerMToken": 50,
      "cacheReadPerMToken": 0.25,
      "cacheWrite5mPerMToken": 12.5,
      "cacheWrite1hPerMToken": 20,
      "above": []
    },
    "claude-fable-5-2": {
      "inputPerMToken": 8,
      "outputPerMToken": 40,
      "cacheReadPerMToken": 0.2,
      "cacheWrite5mPerMToken": 10,
      "cacheWrite1hPerMToken": 16,
      "above": []
    },
    "claude-haiku-4-5": {
      "inputPerMToken": 1,
      "outputPerMToken": 5,
      "cacheReadPerMToken": 0.1,
      "cacheWrite5mPerMToken": 1.25,
      "cacheWrite1hPerMToken": 2,
      "above": []
    },
    "claude-haiku-5-5": {
      "inputPerMToken": 0.1,
      "outputPerMToken": 0.5,
      "cacheReadPerMToken": 0.01,
      "cacheWrite5mPerMToken": 0.125,
      "cacheWrite1hPerMToken": 0.2,
      "above": [
        {
          "promptTokens": 100000,
          "inputPerMToken": 0.5,
          "outputPerMToken": 2.5,
          "cacheReadPerMToken": 0.05,
          "cacheWrite5mPerMToken": 0.625,
          "cacheWrite1hPerMToken": 1
        }
      ]
    },
    "claude-mythos-5": {
      "inputPerMToken": 10,
      "outputPerMToken": 50,
      "cacheReadPerMToken": 1,
      "cacheWrite5mPerMToken": 12.5,
      "cacheWrite1hPerMToken": 20,
      "above": []
    },
    "claude-mythos-5-1": {
      "inputPerMToken": 10,
      "outputPerMToken": 50,
      "cacheReadPerMToken": 0.25,
      "cacheWrite5mPerMToken": 12.5,
      "cacheWrite1hPerMToken": 20,
      "above": []
    },
    "claude-mythos-5-2": {
      "inputPerMToken": 8,
      "outputPerMToken": 40,
      "cacheReadPerMToken": 0.2,
      "cacheWrite5mPerMToken": 10,
      "cacheWrite1hPerMToken": 16,
      "above": []
    },
    "claude-mythos-preview": {
      "inputPerMToken": 10,
      "outputPerMToken": 50,
      "cacheReadPerMToken": 1,
      "cacheWrite5mPerMToken": 12.5,
      "cacheWrite1hPerMToken": 20,
      "above": []
    },
    "claude-opus-4": {
      "inputPerMToken": 15,
      "outputPerMToken": 75,
      "cacheReadPerMToken": 1.5,
      "cacheWrite5mPerMToken": 18.75,
      "cacheWrite1hPerMToken": 30,
      "above": []
    },
    "claude-opus-4-1": {
      "inputPerMToken": 15,
      "outputPerMToken": 75,
      "cacheReadPerMToken": 1.5,
      "cacheWrite5mPerMToken": 18.75,
      "cacheWrite1hPerMToken": 30,
      "above": []
    },
    "claude-opus-4-5": {
      "inputPerMToken": 5,
      "outputPerMToken": 25,
      "cacheReadPerMToken": 0.5,
      "cacheWrite5mPerMToken": 6.25,
      "cacheWrite1hPerMToken": 10,
      "above": []
    },
    "claude-opus-4-6": {
      "inputPerMToken": 5,
      "outputPerMToken": 25,
      "cacheReadPerMToken": 0.5,
      "cacheWrite5mPerMToken": 6.25,
      "cacheWrite1hPerMToken": 10,
      "above": []
    },
    "claude-opus-4-7": {
      "inputPerMToken": 5,
      "outputPerMToken": 25,
      "cacheReadPerMToken": 0.5,
      "cacheWrite5mPerMToken": 6.25,
      "cacheWrite1hPerMToken": 10,
      "above": []
    },
    "claude-opus-4-8": {
      "inputPerMToken": 5,
      "outputPerMToken": 25,
      "cacheReadPerMToken": 0.5,
      "cacheWrite5mPerMToken": 6.25,
      "cacheWrite1hPerMToken": 10,
      "above": []
    },
    "claude-opus-5": {
      "inputPerMToken": 5,
      "outputPerMToken": 25,
      "cacheReadPerMToken": 0.5,
      "cacheWrite5mPerMToken": 6.25,
      "cacheWrite1hPerMToken": 10,
      "above": []
    },
    "claude-opus-5-5": {
      "inputPerMToken": 4,
      "outputPerMToken": 20,
      "cacheReadPerMToken": 0.2,
      "cacheWrite5mPerMToken": 5,
      "cacheWrite1hPerMToken": 8,
      "above": []
    },
    "claude-sonnet-4": {
      "inputPerMToken": 3,
      "outputPerMToken": 15,
      "cacheReadPerMToken": 0.3,
      "cacheWrite5mPerMToken": 3.75,
      "cacheWrite1hPerMToken": 6,
      "above": [
        {
          "promptTokens": 200000,
          "inputPerMToken": 6,
          "outputPerMToken": 22.5,
          "cacheReadPerMToken": 0.6,
          "cacheWrite5mPerMToken": 7.5,
          "cacheWrite1hPerMToken": 12
        }
      ]
    },
    "claude-sonnet-4-5": {
      "inputPerMToken": 3,
      "outputPerMToken": 15,
      "cacheReadPerMToken": 0.3,
      "cacheWrite5mPerMToken": 3.75,
      "cacheWrite1hPerMToken": 6,
      "above": []
    },
    "claude-sonnet-4-6": {
      "inputPerMToken": 3,
      "outputPerMToken": 15,
      "cacheReadPerMToken": 0.3,
      "cacheWrite5mPerMToken": 3.75,
      "cacheWrite1hPerMToken": 6,
      "above": []
    },
    "claude-sonnet-5": {
      "inputPerMToken": 2,
      "outputPerMToken": 10,
      "cacheReadPerMToken": 0.2,
      "cacheWrite5mPerMToken": 2.5,
      "cacheWrite1hPerMToken": 4,
      "above": []
    },
    "claude-sonnet-5-5": {
      "inputPerMToken": 2,
      "outputPerMToken": 10,
      "cacheReadPerMToken": 0.1,
      "cacheWrite5mPerMToken": 2.5,
      "cacheWrite1hPerMToken": 4,
      "above": []
    },
    "claude-v1": {
      "inputPerMToken": 8,
      "outputPerMToken": 24,
      "cacheReadPerMToken": null,
      "cacheWrite5mPerMToken": null,
      "cacheWrite1hPerMToken": null,
      "above": []
    }
  },
  "rentcast": {
    "costPerRequest": 0.2,
    "plans": {
      "developer": {
        "monthly": 0,
        "included": 50,
        "overage": 0.2
      },
      "foundation": {
        "monthly": 74,
        "included": 1000,
        "overage": 0.06
      },
      "growth": {
        "monthly": 199,
        "included": 5000,
        "overage": 0.03
      },
      "scale": {
        "monthly": 449,
        "included": 25000,
        "overage": 0.015
      }
    }
  }
};
