<?php

declare(strict_types=1);

namespace Tallyd;

/**
 * Converts vendors' usage into fields of a record. Pure: decoded JSON in, fields out; null without usage.
 *
 * The record's token buckets are disjoint; vendors differ in the tokens that they count twice. Anthropic's `input_tokens`
 * exclude cached tokens. OpenAI's include tokens read from and written to the cache, and audio and image tokens. Gemini's
 * prompt includes the cached content, but thoughts are separate. A count that is not understood makes the call unpriced, and
 * its name goes into the metadata. clients/vectors/usage.json has cases for every client.
 */
final class Usage
{
    /** Metadata key that makes the daemon leave the call unpriced. */
    public const MARK = 'tallyd.not_understood';

    private const STANDARD = ['', 'standard', 'default', 'auto', 'global', 'not_available'];
    private const MODALITIES = ['TEXT', 'AUDIO', 'IMAGE', 'VIDEO', 'DOCUMENT', 'MODALITY_UNSPECIFIED'];
    /** Calls within a response that cost only their tokens. */
    private const TOKENS_ALONE = [
        'function_call', 'custom_tool_call', 'computer_call', 'mcp_call', 'local_shell_call', 'apply_patch_call',
        'tool_search_call',
    ];

    /**
     * The usage fields of an answer in any form. An answer without usage was paid for, so its fields make the call unpriced.
     *
     * @param string $family `anthropic`, `openai` (also for vendors that use its form), or `google`
     * @param array<mixed> $answer decoded JSON
     * @return array<string, mixed>
     */
    public static function fields(string $family, array $answer): array
    {
        return self::of($family, $answer) ?? ['model' => Counts::text($answer['model'] ?? null), 'metadata' => [self::MARK => 'usage']];
    }

    /**
     * @param array<mixed> $answer
     * @return ?array<string, mixed>
     */
    public static function of(string $family, array $answer): ?array
    {
        if ($family === 'google' && $answer !== [] && array_is_list($answer)) {
            // A stream that was requested as an array.
            $stream = new StreamUsage($family);
            foreach (Counts::mappings($answer) as $event) {
                $stream->event($event);
            }
            return $stream->result();
        }
        return match ($family) {
            'anthropic' => self::anthropic($answer),
            'google' => self::google($answer),
            default => self::openai($answer),
        };
    }

    /**
     * @param array<mixed> $message
     * @return ?array<string, mixed>
     */
    public static function anthropic(array $message): ?array
    {
        $usage = Counts::mapping($message['usage'] ?? null);
        if (!array_key_exists('input_tokens', $usage) && !array_key_exists('output_tokens', $usage)) {
            return null;
        }
        $doubt = null;
        $counts = new Counts($usage, 'usage', $doubt);
        $used = self::buckets($counts);
        // A refusal before any output is not billed.
        $refused = ($message['stop_reason'] ?? null) === 'refusal' && $used[1] === 0;
        if ($refused) {
            $used = [0, 0, 0, 0, 0];
        }
        $searches = $counts->count('server_tool_use.web_search_requests');
        $counts->part('server_tool_use.web_fetch_requests', 'iterations', 'fallback_credit');
        foreach (Counts::mappings($usage['iterations'] ?? null) as $iteration) {
            $kind = Counts::text($iteration['type'] ?? null);
            if ($kind === 'compaction') {
                $own = new Counts($iteration, 'usage.iterations.compaction', $doubt);
                $used = array_map(fn (int $one, int $other) => $one + $other, self::buckets($own), $used);
                $own->rest();
            } elseif ($kind !== 'message' && $kind !== 'fallback_message') {
                $counts->doubt("iterations.$kind");
            }
        }
        // The bill then counts some cache writes as reads, and the usage does not say how many.
        if ($counts->get('fallback_credit.status.type') === 'redeemed') {
            $counts->doubt('fallback_credit');
        }
        $cost = self::charge($counts);
        $counts->rest();
        return self::record($doubt, [
            'model' => Counts::text($message['model'] ?? null),
            'input_tokens' => $used[0],
            'output_tokens' => $used[1],
            'cache_read_tokens' => $used[2],
            'cache_write_5m_tokens' => $used[3],
            'cache_write_1h_tokens' => $used[4],
            'extra_units' => ['web_search' => $searches],
            'service_tier' => self::tier($usage['service_tier'] ?? null, $usage['speed'] ?? null, $usage['inference_geo'] ?? null),
            'cost_usd' => $cost,
            'metadata' => $refused ? ['unbilled' => 'refusal'] : [],
        ]);
    }

    /**
     * Anthropic's buckets, of an answer or one iteration: input, output, cache read, 5-minute and 1-hour cache write.
     *
     * @return array{int, int, int, int, int}
     */
    private static function buckets(Counts $counts): array
    {
        [$input, $output] = [$counts->count('input_tokens'), $counts->count('output_tokens')];
        [$read, $written] = [$counts->count('cache_read_input_tokens'), $counts->count('cache_creation_input_tokens')];
        $five = $counts->count('cache_creation.ephemeral_5m_input_tokens');
        $hour = $counts->count('cache_creation.ephemeral_1h_input_tokens');
        $counts->part('output_tokens_details');
        if ($written >= $five + $hour) {
            // Writes that the split leaves out are those of five minutes, the default.
            $five = $written - $hour;
        } elseif ($written > 0) {
            $counts->doubt('cache_creation_input_tokens');
        }
        return [$input, $output, $read, $five, $hour];
    }

    /**
     * @param array<mixed> $answer
     * @return ?array<string, mixed>
     */
    public static function openai(array $answer): ?array
    {
        $usage = Counts::mapping($answer['usage'] ?? null);
        if ($usage === []) {
            return null;
        }
        $doubt = null;
        $counts = new Counts($usage, 'usage', $doubt);
        $names = array_key_exists('input_tokens', $usage) ? ['input_token', 'output_token'] : ['prompt_token', 'completion_token'];
        // Realtime and transcriptions use the singular.
        $details = fn (string $name) => array_key_exists("{$name}_details", $usage) ? "{$name}_details" : "{$name}s_details";
        [$asked, $said] = array_map($details, $names);
        [$prompt, $completion] = ["{$names[0]}s", "{$names[1]}s"];
        [$whole, $output] = [$counts->count($prompt), $counts->count($completion)];
        $cached = $counts->one("$asked.cached_tokens", 'prompt_cache_hit_tokens', 'cached_tokens', 'cache_read_input_tokens');
        $written = $counts->one("$asked.cache_write_tokens", "$asked.cache_creation_tokens", 'cache_creation_input_tokens');
        $hour = $counts->count("$asked.cache_creation_token_details.ephemeral_1h_input_tokens");
        [$heard, $seen] = [$counts->count("$asked.audio_tokens"), $counts->count("$asked.image_tokens")];
        $heardAgain = $counts->count("$asked.cached_tokens_details.audio_tokens");
        $seenAgain = $counts->count("$asked.cached_tokens_details.image_tokens");
        [$spoken, $drawn] = [$counts->count("$said.audio_tokens"), $counts->count("$said.image_tokens")];
        [$thoughts, $total] = [$counts->count("$said.reasoning_tokens"), $counts->count('total_tokens')];
        $searches = $counts->one('server_tool_use.web_search_requests', "$asked.web_search_requests");
        $seconds = ($usage['type'] ?? null) === 'duration' ? $counts->number('seconds') : 0;
        $counts->part(
            "$asked.text_tokens",
            "$asked.cached_tokens_details.text_tokens",
            "$asked.cache_creation_token_details.ephemeral_5m_input_tokens",
            "$said.text_tokens",
            "$said.accepted_prediction_tokens",
            "$said.rejected_prediction_tokens",
            'prompt_cache_miss_tokens',
            'server_tool_use.web_fetch_requests',
            'iterations',
        );
        // Embeddings and rankings of some vendors have a total only.
        if (($answer['object'] ?? null) === 'list' && $whole === 0 && $output === 0) {
            $whole = $total;
        }
        if ($total > 0 && $total === $whole + $output + $thoughts) {
            $output = $total - $whole;
        } elseif ($total > 0 && $total !== $whole + $output) {
            $counts->doubt('total_tokens');
        }
        if ($cached > 0 && $heard + $seen > 0 && $counts->get("$asked.cached_tokens_details") === null) {
            $counts->doubt("$asked.cached_tokens");
        }
        $heardNew = $counts->less("$asked.audio_tokens", $heard, $heardAgain);
        $seenNew = $counts->less("$asked.image_tokens", $seen, $seenAgain);
        $read = $counts->less("$asked.cached_tokens", $cached, $heardAgain, $seenAgain);
        $fields = [
            'model' => Counts::text($answer['model'] ?? null),
            'input_tokens' => $counts->less($prompt, $whole, $cached, $written, $heardNew, $seenNew),
            'output_tokens' => $counts->less($completion, $output, $spoken, $drawn),
            'cache_read_tokens' => $read,
            'cache_write_5m_tokens' => $counts->less("$asked.cache_creation_token_details", $written, $hour),
            'cache_write_1h_tokens' => $hour,
        ];
        // LiteLLM sums all attempts of Anthropic, including unbilled ones and those of other models.
        foreach (Counts::mappings($usage['iterations'] ?? null) as $iteration) {
            $kind = Counts::text($iteration['type'] ?? null);
            if ($kind !== 'message' && $kind !== 'compaction') {
                $counts->doubt("iterations.$kind");
            }
        }
        $fields['cost_usd'] = self::charge($counts);
        $counts->rest();
        $units = self::items($answer, $doubt);
        $units['web_search'] = ($units['web_search'] ?? 0) + $searches;
        $told = ($answer['service_tier'] ?? null) ?: ($usage['service_tier'] ?? null);
        return self::record($doubt, [
            ...$fields,
            'service_tier' => self::tier($told, $usage['speed'] ?? null, $usage['inference_geo'] ?? null),
            'extra_units' => [
                ...$units,
                'audio_input_token' => $heardNew,
                'audio_cache_read_token' => $heardAgain,
                'audio_output_token' => $spoken,
                'audio_second' => $seconds,
                'image_input_token' => $seenNew,
                'image_cache_read_token' => $seenAgain,
                'image_output_token' => $drawn,
            ],
        ]);
    }

    /**
     * Units that a response's items, or a model that always searches, cost in addition to tokens.
     *
     * @param array<mixed> $answer
     * @return array<string, int>
     */
    private static function items(array $answer, ?string &$doubt): array
    {
        [$units, $containers] = [[], []];
        $isChat = str_starts_with(Counts::text($answer['object'] ?? null), 'chat.completion');
        if ($isChat && preg_match('/-search-(preview|api)/', Counts::text($answer['model'] ?? null))) {
            $units['web_search'] = 1;
        }
        foreach (Counts::mappings($answer['output'] ?? null) as $item) {
            [$kind, $container] = [Counts::text($item['type'] ?? null), Counts::text($item['container_id'] ?? null)];
            if (!str_ends_with($kind, '_call') || in_array($kind, self::TOKENS_ALONE, true)) {
                continue;
            }
            $unit = self::billedAs($kind, $item);
            if ($unit === null) {
                $doubt ??= "output.$kind";
            } elseif ($unit !== '' && !($unit === 'code_interpreter' && $container !== '' && isset($containers[$container]))) {
                $units[$unit] = ($units[$unit] ?? 0) + 1;
            }
            $containers[$container] = true;
        }
        return $units;
    }

    /**
     * The item's unit; empty if the item is not billed, null if that is unknown.
     *
     * @param array<mixed> $item
     */
    private static function billedAs(string $kind, array $item): ?string
    {
        $status = $item['status'] ?? null;
        $isDone = $status === null || $status === 'completed';
        switch ($kind) {
            case 'web_search_call':
                // Opening a page, or searching in one, is not billed.
                $action = Counts::text(Counts::mapping($item['action'] ?? null)['type'] ?? null);
                return $isDone && in_array($action, ['', 'search'], true) ? 'web_search' : '';
            case 'file_search_call':
                return $isDone ? 'file_search' : '';
            case 'image_generation_call':
                return $status !== 'failed' ? 'image_generation' : '';
            case 'code_interpreter_call':
                return 'code_interpreter';
            case 'shell_call':
                $environment = Counts::mapping($item['environment'] ?? null)['type'] ?? null;
                return in_array($environment, [null, 'local'], true) ? '' : null;
        }
        return null;
    }

    /**
     * @param array<mixed> $body
     * @return ?array<string, mixed>
     */
    public static function google(array $body): ?array
    {
        $meta = Counts::mapping($body['usageMetadata'] ?? null);
        if ($meta === []) {
            return null;
        }
        $doubt = null;
        $counts = new Counts($meta, 'usageMetadata', $doubt);
        [$prompt, $cached] = [$counts->count('promptTokenCount'), $counts->count('cachedContentTokenCount')];
        $tool = $counts->count('toolUsePromptTokenCount');
        $said = $counts->one('candidatesTokenCount', 'responseTokenCount');
        [$thoughts, $total] = [$counts->count('thoughtsTokenCount'), $counts->count('totalTokenCount')];
        $of = function (string $name) use ($counts, $meta, &$doubt): array {
            return self::modalities($counts, $meta, $name, $doubt);
        };
        [$asked, $again, $tools] = [$of('promptTokensDetails'), $of('cacheTokensDetails'), $of('toolUsePromptTokensDetails')];
        [$candidates, $responses] = [$of('candidatesTokensDetails'), $of('responseTokensDetails')];
        [$heard, $heardAgain] = [$asked['AUDIO'] + $tools['AUDIO'], $again['AUDIO']];
        [$spoken, $drawn] = [$candidates['AUDIO'] + $responses['AUDIO'], $candidates['IMAGE'] + $responses['IMAGE']];
        // Only Live models have a rate of their own for image and video input.
        $seen = array_key_exists('responseTokenCount', $meta) ? $asked['IMAGE'] + $asked['VIDEO'] : 0;
        if ($total > 0 && $total !== $prompt + $said + $thoughts + $tool) {
            $counts->doubt('totalTokenCount');
        }
        if ($cached > 0 && $heard > 0 && !is_array($meta['cacheTokensDetails'] ?? null)) {
            $counts->doubt('cachedContentTokenCount');
        }
        $heardNew = $counts->less('promptTokensDetails', $heard, $heardAgain);
        $fields = [
            'model' => Counts::text($body['modelVersion'] ?? null),
            'input_tokens' => $counts->less('promptTokenCount', $prompt + $tool, $cached, $heardNew, $seen),
            'cache_read_tokens' => $counts->less('cachedContentTokenCount', $cached, $heardAgain),
            'output_tokens' => $counts->less('candidatesTokenCount', $said, $spoken, $drawn) + $thoughts,
        ];
        $counts->rest();
        $traffic = Counts::text(($meta['serviceTier'] ?? null) ?: ($meta['trafficType'] ?? null));
        return self::record($doubt, [
            ...$fields,
            'service_tier' => self::tier(str_ends_with($traffic, 'UNSPECIFIED') ? '' : $traffic),
            'extra_units' => [
                'audio_input_token' => $heardNew,
                'audio_cache_read_token' => $heardAgain,
                'audio_output_token' => $spoken,
                'image_input_token' => $seen,
                'image_output_token' => $drawn,
                ...self::grounded($body),
            ],
        ]);
    }

    /**
     * @param array<mixed> $meta
     * @return array<string, int>
     */
    private static function modalities(Counts $counts, array $meta, string $name, ?string &$doubt): array
    {
        $counts->part($name);
        $told = array_fill_keys(self::MODALITIES, 0);
        foreach (Counts::mappings($meta[$name] ?? null) as $one) {
            $modality = Counts::text($one['modality'] ?? null) ?: 'MODALITY_UNSPECIFIED';
            if (!in_array($modality, self::MODALITIES, true)) {
                $counts->doubt("$name.$modality");
            }
            $count = (new Counts($one, "usageMetadata.$name", $doubt))->count('tokenCount');
            $told[$modality] = ($told[$modality] ?? 0) + $count;
        }
        return $told;
    }

    /**
     * Units of searches: up to Gemini 2.5 one per prompt, from Gemini 3 on one per query.
     *
     * @param array<mixed> $body
     * @return array<string, int>
     */
    private static function grounded(array $body): array
    {
        $queries = $maps = 0;
        foreach (Counts::mappings($body['candidates'] ?? null) as $candidate) {
            $grounding = Counts::mapping($candidate['groundingMetadata'] ?? null);
            $asked = $grounding['webSearchQueries'] ?? null;
            $queries += is_array($asked) ? count(array_filter($asked, fn ($query) => $query !== '')) : 0;
            foreach (Counts::mappings($grounding['groundingChunks'] ?? null) as $chunk) {
                $maps = array_key_exists('maps', $chunk) ? 1 : $maps;
            }
        }
        $isByQuery = preg_match('/^gemini-([3-9]|\d\d)/', Counts::text($body['modelVersion'] ?? null));
        return ['web_search' => $isByQuery ? $queries : min(1, $queries), 'maps_search' => $maps];
    }

    /**
     * The vendor's own charge in USD: `cost` of OpenRouter and Perplexity.
     *
     * With the caller's own key, OpenRouter's `cost` is its fee, and the upstream vendor's charge is added. A cost of 0 counts
     * only from OpenRouter; for other vendors it means unknown.
     */
    private static function charge(Counts $counts): ?string
    {
        $path = array_key_exists('total_cost', Counts::mapping($counts->get('cost'))) ? 'cost.total_cost' : 'cost';
        if ($counts->get($path) === null) {
            return null;
        }
        [$cost, $own] = [$counts->number($path), $counts->get('is_byok')];
        if ($own === true) {
            $cost += $counts->number('cost_details.upstream_inference_cost');
        } elseif ($cost == 0 && ($own !== false || !is_numeric($counts->get($path)))) {
            return null;
        }
        return self::decimal($cost);
    }

    /** The shortest decimal text of this number. It may have an exponent, which the daemon accepts. */
    private static function decimal(int|float $value): string
    {
        return is_int($value) ? (string) $value : (string) preg_replace('/\.0(?=$|e)/', '', (string) var_export($value, true));
    }

    /** Tier, speed and region as one text: `batch+us`. */
    private static function tier(mixed ...$parts): string
    {
        return implode('+', array_filter($parts, fn ($part) => !in_array(Counts::text($part), self::STANDARD, true)));
    }

    /**
     * The fields that are not at their defaults.
     *
     * @param array<string, mixed> $fields
     * @return array<string, mixed>
     */
    private static function record(?string $doubt, array $fields): array
    {
        $fields['extra_units'] = array_map(self::decimal(...), array_filter($fields['extra_units']));
        ksort($fields['extra_units']);
        $fields['metadata'] = ($fields['metadata'] ?? []) + ($doubt === null ? [] : [self::MARK => $doubt]);
        return array_filter($fields, fn ($value) => !in_array($value, [null, '', 0, []], true));
    }
}
