<?php

declare(strict_types=1);

namespace Tallyd;

/**
 * The counts of a vendor's usage object, with a mark on each count that was read.
 *
 * A call's usage is understood completely, or the call is unpriced. Not understood are: a quantity that is unmarked at the
 * end, and a count that is not a whole number. The first such name goes into the record's metadata.
 *
 * @internal
 */
final class Counts
{
    /** Words in names of values that are not billed: `queue_time`, `max_tokens`. */
    private const NO_USAGE = ['cost', 'time', 'latency', 'duration', 'ratio', 'percent', 'limit', 'max', 'remaining'];

    /** @var array<string, bool> */
    private array $read = [];

    /**
     * @param array<mixed> $root
     * @param string $at the prefix of the names in `$doubt`
     * @param ?string $doubt the first name of an answer that was not understood
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

    /** A whole number; 0 if it is missing. Doubts any other value. */
    public function count(string $path): int
    {
        $value = $this->number($path);
        if (floor($value) == $value) {
            return (int) $value;
        }
        $this->doubt($path);
        return 0;
    }

    /** A number from 0 on, below 2^53; 0 if it is missing. Doubts any other value. */
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

    /** One count that vendors give different names. Doubts two that differ. */
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

    /** `whole` minus `parts`, not below 0. Doubts parts that exceed their whole. */
    public function less(string $path, int $whole, int ...$parts): int
    {
        $rest = $whole - array_sum($parts);
        if ($rest < 0) {
            $this->doubt($path);
        }
        return max(0, $rest);
    }

    /** Doubts the alphabetically first unread name that holds a quantity. */
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
