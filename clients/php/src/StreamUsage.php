<?php

declare(strict_types=1);

namespace Tallyd;

/** Collects the usage of a stream's events. An incomplete stream has its usage so far, and a mark in the metadata. */
final class StreamUsage
{
    /** @var array<mixed> */
    private array $answer = [];
    /** @var array<mixed> */
    private array $usage = [];
    /** @var ?array<string, mixed> */
    private ?array $found = null;
    private bool $isWhole = false;

    public function __construct(private readonly string $family)
    {
    }

    /**
     * Takes the next event's decoded JSON.
     *
     * @param array<mixed> $event
     */
    public function event(array $event): void
    {
        $kind = Counts::text($event['type'] ?? null);
        if ($this->family === 'anthropic') {
            $this->ofAnthropic($kind, $event);
        } elseif ($this->family === 'google') {
            $this->ofGoogle($event);
        } else {
            $answer = str_starts_with($kind, 'response.') ? Counts::mapping($event['response'] ?? null) : $event;
            $this->found = Usage::openai($answer) ?? $this->found;
        }
    }

    /** @param array<mixed> $event */
    private function ofAnthropic(string $kind, array $event): void
    {
        if ($kind === 'message_start') {
            $this->answer = Counts::mapping($event['message'] ?? null);
            $this->usage = Counts::mapping($this->answer['usage'] ?? null);
        } elseif ($kind === 'message_delta') {
            // Its counts are cumulative, and some may be missing.
            $told = array_filter(Counts::mapping($event['usage'] ?? null), fn ($value) => $value !== null);
            $this->usage = [...$this->usage, ...$told];
            $this->answer['stop_reason'] = Counts::mapping($event['delta'] ?? null)['stop_reason'] ?? null;
        } elseif ($kind === 'message_stop') {
            $this->isWhole = true;
        }
    }

    /** @param array<mixed> $event */
    private function ofGoogle(array $event): void
    {
        foreach (Counts::mappings($event['candidates'] ?? null) as $one) {
            $this->isWhole = $this->isWhole || ($one['finishReason'] ?? null);
            if ($one['groundingMetadata'] ?? null) {
                $this->answer['candidates'] = $event['candidates'];
            }
        }
        foreach (['modelVersion', 'usageMetadata'] as $name) {
            $this->answer[$name] = $event[$name] ?? $this->answer[$name] ?? null;
        }
    }

    /**
     * The record's fields with the usage so far; null without usage.
     *
     * @return ?array<string, mixed>
     */
    public function result(): ?array
    {
        if ($this->family === 'openai') {
            return $this->found;
        }
        $fields = $this->family === 'google'
            ? Usage::google($this->answer)
            : Usage::anthropic([...$this->answer, 'usage' => $this->usage]);
        if ($fields !== null && !$this->isWhole) {
            $fields['metadata'] = ['incomplete' => true] + ($fields['metadata'] ?? []);
        }
        return $fields;
    }
}
