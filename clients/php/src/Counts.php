<?php

declare(strict_types=1);

namespace Tallyd;

/**
 * The counts of a vendor's usage object, with a mark on each that was read.
 *
 * A call's usage is understood whole, or the call is unpriced. What is left unmarked at the end and tells a quantity was not
 * understood, and neither is a count that is not a whole number. The first such name goes with the record.
 *
 * @internal
 */
final class Counts
{
    /** Words of names that tell no quantity that is billed: `queue_time`, `max_tokens`. */
    private const NO_USAGE = ['cost', 'time', 'latency', 'duration', 'ratio', 'percent', 'limit', 'max', 'remaining'];

    /** @var array<string, bool> */
    private array $read = [];

    /**
     * @param array<mixed> $root
     * @param string $at how names begin that are told
     * @param ?string $doubt the first name that was not understood, of all that belongs to one answer
     */
    public function __construct(private readonly array $root, private readonly string $at, private ?string &$doubt)
    {
    }

    /** @return array<mixed> */
    public static function mapping(mixed $value): array
    {
        return is_array($value) && ($value === [] || !array_is_list($value)) ? $value : [];
    }

    /** @return list<array<mixed>> */
    public static function mappings(mixed $value): array
    {
        return is_array($value) && array_is_list($value) ? array_map(self::mapping(...), $value) : [];
    }

    public static function text(mixed $value): string
    {
        return is_string($value) ? $value : '';
    }

    public function get(string $path): mixed
    {
        $value = $this->root;
        foreach (explode('.', $path) as $name) {
            $value = self::mapping($value)[$name] ?? null;
        }
        return $value;
    }

    public function doubt(string $path): void
    {
        $this->doubt ??= "$this->at.$path";
    }

    /** A whole number; 0 where there is none. */
    public function count(string $path): int
    {
        $value = $this->number($path);
        if (floor($value) == $value) {
            return (int) $value;
        }
        $this->doubt($path);
        return 0;
    }

    /** A number from 0 on; 0 where there is none. */
    public function number(string $path): int|float
    {
        $this->read[$path] = true;
        $value = $this->get($path);
        if ($value === null) {
            return 0;
        }
        if ((is_int($value) || is_float($value)) && $value >= 0 && $value < 2 ** 53) {
            return $value;
        }
        $this->doubt($path);
        return 0;
    }

    /** One count that has several names. Those that differ are not understood. */
    public function one(string ...$paths): int
    {
        $found = 0;
        foreach ($paths as $path) {
            $count = $this->count($path);
            if ($found === 0) {
                $found = $count;
            } elseif ($count !== 0 && $count !== $found) {
                $this->doubt($path);
            }
        }
        return $found;
    }

    /** Marks counts that are parts of others, or cost nothing. */
    public function part(string ...$paths): void
    {
        $this->read += array_fill_keys($paths, true);
    }

    /** `whole` without its parts. Parts that are more than their whole are not understood. */
    public function less(string $path, int $whole, int ...$parts): int
    {
        $rest = $whole - array_sum($parts);
        if ($rest < 0) {
            $this->doubt($path);
        }
        return max(0, $rest);
    }

    /** Doubts the first name, in their order, that tells a quantity and was not read. */
    public function rest(): void
    {
        $unread = $this->unread($this->root, '');
        if ($unread !== []) {
            sort($unread, SORT_STRING);
            $this->doubt($unread[0]);
        }
    }

    /** @return list<string> */
    private function unread(mixed $value, string $path): array
    {
        if (isset($this->read[$path])) {
            return [];
        }
        if (!is_array($value)) {
            return self::tellsUsage($path, $value) ? [$path] : [];
        }
        $found = [];
        foreach ($value as $name => $one) {
            $inner = match (true) {
                array_is_list($value) => $path,
                $path === '' => (string) $name,
                default => "$path.$name",
            };
            array_push($found, ...$this->unread($one, $inner));
        }
        return $found;
    }

    private static function tellsUsage(string $path, mixed $value): bool
    {
        $name = strtolower($path);
        if (array_intersect(self::NO_USAGE, preg_split('/[^a-z]+/', $name)) !== []) {
            return false;
        }
        if (preg_match('/per_second|context_window|token_type/', $name)) {
            return false;
        }
        if (is_int($value) || is_float($value)) {
            return $value != 0;
        }
        $last = substr((string) strrchr(".$name", '.'), 1);
        return is_string($value) && $value !== '' && str_contains($last, 'token');
    }
}
