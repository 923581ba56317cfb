<?php

declare(strict_types=1);

namespace Tallyd;

/**
 * Records paid API calls.
 *
 * A PHP request is short and cannot send from a thread. So `record()` only keeps the call in memory. A shutdown function sends
 * the request's calls together, within `timeout` seconds. Each call gets its id in `record()`. Calls that the daemon has not
 * acknowledged by then go to the spool folder, and a later request sends them with the same ids. For two days the daemon does
 * not count a known id again.
 *
 * Only the constructor throws.
 */
final class Recorder
{
    public const DEFAULT_ENDPOINT = 'unix:/run/tallyd/tallyd.sock';

    /** Calls in memory from which on they are sent at once, before the request's end. */
    private const PENDING_MAX = 500;
    /** Seconds after which waiting calls are sent with the next one, because workers run for days. */
    private const PENDING_SECONDS = 5.0;
    /** Bound of the spool folder in bytes; calls that do not fit are dropped. */
    private const SPOOL_BYTES = 64 << 20;
    /** Bound of spooled files that one flush sends after its own calls. */
    private const SPOOLED_AT_ONCE = 4;
    /** Error codes that concern the connection, not a line. */
    private const CONNECTION_CODES = ['slow', 'shutting_down', 'unauthorized'];

    private readonly string $endpoint;
    private readonly ?string $token;
    private readonly string $spool;
    private readonly bool $disabled;
    /** @var array<string, string> lines by their ids */
    private array $pending = [];
    private float $since = 0.0;
    /** @var array<string, int> */
    private array $counts = ['recorded' => 0, 'settled' => 0, 'rejected' => 0, 'spooled' => 0, 'dropped' => 0];
    /** @var array<string, bool> */
    private array $told = [];

    /**
     * @param ?string $endpoint `unix:/path`, `tcp://token@host:port` or `https://host`; null: `TALLYD_ENDPOINT`, `TALLYD_SOCKET`,
     *                          then the default socket
     * @param ?string $token the access token for TCP and HTTP; null: `TALLYD_TOKEN`
     * @param string $app the application's name, for records without one
     * @param float $timeout bound of a flush, in seconds
     * @param ?string $spool folder for undelivered calls; null: `TALLYD_SPOOL`, then a folder of this user in the system's
     *                       temporary folder
     * @param ?callable(array<string, mixed>): void $onDrop gets calls that could be neither delivered nor spooled
     * @param ?callable(string, string, string): void $onReject gets id, code and message of a refused record
     * @param array<string, string|int> $tags go into each record, such as `['environment' => 'production']`; its own come first
     * @param ?bool $disabled keeps nothing and opens nothing, for tests; null: whether `TALLYD_DISABLED` is set to yes
     * @param ?string $ca a PEM file with the authorities of an `https://` endpoint; null: the system's
     * @throws \InvalidArgumentException for an invalid endpoint
     */
    public function __construct(
        ?string $endpoint = null,
        ?string $token = null,
        private readonly string $app = '',
        private readonly float $timeout = 0.25,
        ?string $spool = null,
        private readonly mixed $onDrop = null,
        private readonly mixed $onReject = null,
        ?bool $disabled = null,
        private readonly array $tags = [],
        private readonly ?string $ca = null,
    ) {
        $endpoint = $endpoint ?: (getenv('TALLYD_ENDPOINT') ?: (getenv('TALLYD_SOCKET') ?: self::DEFAULT_ENDPOINT));
        $token = $token ?: (getenv('TALLYD_TOKEN') ?: null);
        if (!str_contains($endpoint, '://')) {
            $endpoint = 'unix://' . (str_starts_with($endpoint, 'unix:') ? substr($endpoint, 5) : $endpoint);
        }
        if (!preg_match('~^(unix:///.|tcp://.+:\d+$|https?://.)~', $endpoint)) {
            throw new \InvalidArgumentException('an endpoint is unix:/path, tcp://token@host:port or https://host');
        }
        if (preg_match('~^(\w+://)([^@/]+)@(.*)$~', $endpoint, $parts)) {
            [$endpoint, $token] = [$parts[1] . $parts[3], rawurldecode($parts[2])];
        }
        [$this->endpoint, $this->token] = [rtrim($endpoint, '/'), $token];
        $user = function_exists('posix_geteuid') ? posix_geteuid() : get_current_user();
        $this->spool = $spool ?: (getenv('TALLYD_SPOOL') ?: sys_get_temp_dir() . "/tallyd-spool-$user");
        $this->disabled = $disabled ?? in_array(strtolower((string) getenv('TALLYD_DISABLED')), ['1', 'true', 'yes', 'on'], true);
        register_shutdown_function(fn () => $this->flush());
    }

    /**
     * Records a call. The fields are those of protocol/README.md: `model`, `input_tokens`, `user_id` … Amounts and quantities are
     * decimal text or whole numbers, never floats. Returns the call's id; null: the record cannot be encoded.
     *
     * @param array<string, mixed> $fields
     */
    public function record(string $provider, array $fields = []): ?string
    {
        try {
            $this->counts['recorded']++;
            $tags = (array) ($fields['tags'] ?? []) + $this->tags;
            [$id, $line] = self::line(['provider' => $provider, 'app' => $this->app, ...$fields, 'tags' => $tags ?: null]);
            if ($this->disabled) {
                return $id;
            }
            if ($this->pending === []) {
                $this->since = microtime(true);
            }
            $this->pending[$id] = $line;
            $isOld = microtime(true) - $this->since > self::PENDING_SECONDS;
            if ($isOld || count($this->pending) >= self::PENDING_MAX) {
                $this->flush();
            }
            return $id;
        } catch (\Throwable $error) {
            $this->reject((string) ($fields['id'] ?? ''), 'client', $error->getMessage());
            return null;
        }
    }

    /**
     * Sends waiting calls, and those of earlier requests in the spool folder. True: all of them are durable or refused.
     */
    public function flush(): bool
    {
        $deadline = microtime(true) + $this->timeout;
        try {
            $left = $this->pending === [] ? [] : $this->deliver($this->pending, $deadline);
            $this->pending = [];
            if ($left !== []) {
                $this->keep($left);
                return false;
            }
            return $this->disabled || $this->sendSpooled($deadline);
        } catch (\Throwable $error) {
            $this->tell('flush', 'records could not be sent: ' . $error->getMessage());
            return false;
        }
    }

    /**
     * Counts since the recorder was made: `recorded`, `settled` (durable or refused), `rejected`, `spooled`, `dropped`.
     *
     * @return array<string, int>
     */
    public function stats(): array
    {
        return $this->counts;
    }

    /**
     * A record as a line of JSON, with its id.
     *
     * @param array<string, mixed> $fields
     * @return array{string, string}
     */
    public static function line(array $fields): array
    {
        $fields = array_filter($fields, fn ($value) => $value !== null && $value !== '');
        $fields['id'] ??= self::newId();
        $fields['occurred_at'] ??= (int) (microtime(true) * 1e6);
        foreach (['cost_usd' => [$fields['cost_usd'] ?? null], 'extra_units' => $fields['extra_units'] ?? []] as $name => $amounts) {
            if (array_filter((array) $amounts, 'is_float') !== []) {
                throw new \InvalidArgumentException("$name has a float, which has been rounded already: give decimal text");
            }
        }
        if (isset($fields['tags'])) {
            $fields['tags'] = array_map('strval', array_filter((array) $fields['tags'], fn ($value) => $value !== null));
        }
        foreach (['extra_units', 'metadata', 'tags'] as $name) {
            if (isset($fields[$name]) && is_array($fields[$name])) {
                $fields[$name] = (object) $fields[$name];
            }
        }
        if (isset($fields['metadata']) && is_object($fields['metadata']) && (array) $fields['metadata'] === []) {
            unset($fields['metadata']);
        }
        $flags = JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES;
        return [(string) $fields['id'], json_encode($fields, $flags)];
    }

    /** A UUID of version 7. */
    private static function newId(): string
    {
        $bytes = substr(pack('J', (int) (microtime(true) * 1000)), 2) . random_bytes(10);
        $bytes[6] = chr(ord($bytes[6]) & 0x0f | 0x70);
        $bytes[8] = chr(ord($bytes[8]) & 0x3f | 0x80);
        return implode('-', unpack('H8a/H4b/H4c/H4d/H12e', $bytes));
    }

    /**
     * Sends lines. Returns those without an acknowledgement.
     *
     * @param array<string, string> $lines
     * @return array<string, string>
     */
    private function deliver(array $lines, float $deadline): array
    {
        $isHttp = str_starts_with($this->endpoint, 'http');
        foreach ($isHttp ? $this->post($lines, $deadline) : $this->exchange($lines, $deadline) as $answer) {
            $code = $answer['error']['code'] ?? null;
            if (in_array($code, self::CONNECTION_CODES, true)) {
                $this->tell($code, "the daemon answers $code: " . ($answer['error']['message'] ?? ''));
                break;
            }
            $id = (string) array_key_first($lines);
            unset($lines[$id]);
            $this->counts['settled']++;
            if ($code !== null) {
                $this->reject($id, $code, (string) ($answer['error']['message'] ?? ''));
            }
        }
        return $lines;
    }

    /**
     * The answers to lines, in order, as many as arrive in time. Reads while it writes: a daemon that cannot write its answers
     * stops reading.
     *
     * @param array<string, string> $lines
     * @return iterable<array<string, mixed>>
     */
    private function exchange(array $lines, float $deadline): iterable
    {
        $left = fn (): float => max(0.001, $deadline - microtime(true));
        $socket = @stream_socket_client($this->endpoint, $number, $message, $left());
        if ($socket === false) {
            $this->tell('connect', "no connection to $this->endpoint: $message");
            return;
        }
        try {
            stream_set_blocking($socket, false);
            $hello = str_starts_with($this->endpoint, 'tcp') ? json_encode(['token' => (string) $this->token]) . "\n" : '';
            $out = $hello . implode("\n", $lines) . "\n";
            $in = '';
            $awaited = count($lines);
            while ($awaited > 0 && microtime(true) < $deadline) {
                [$read, $write, $except] = [[$socket], $out === '' ? [] : [$socket], null];
                $seconds = $left();
                if (!@stream_select($read, $write, $except, (int) $seconds, (int) (fmod($seconds, 1) * 1e6))) {
                    continue;
                }
                if ($write !== [] && ($sent = @fwrite($socket, $out)) !== false) {
                    $out = substr($out, $sent);
                }
                if ($read === []) {
                    continue;
                }
                $data = @fread($socket, 65536);
                if ($data === false || ($data === '' && feof($socket))) {
                    return;
                }
                $in .= $data;
                while (($end = strpos($in, "\n")) !== false) {
                    $answer = json_decode(substr($in, 0, $end), true);
                    $in = substr($in, $end + 1);
                    if (!is_array($answer)) {
                        return;
                    }
                    $awaited--;
                    yield $answer;
                }
            }
        } finally {
            fclose($socket);
        }
    }

    /**
     * The results of one request to the HTTP API.
     *
     * @param array<string, string> $lines
     * @return iterable<array<string, mixed>>
     */
    private function post(array $lines, float $deadline): iterable
    {
        $headers = ['Content-Type: application/x-ndjson', 'User-Agent: tallyd-php/0.1.0'];
        if ($this->token !== null) {
            $headers[] = "Authorization: Bearer $this->token";
        }
        $http = [
            'method' => 'POST', 'header' => $headers, 'content' => implode("\n", $lines), 'ignore_errors' => true,
            'timeout' => max(0.01, $deadline - microtime(true)), 'follow_location' => 0,
        ];
        $context = stream_context_create(['http' => $http, 'ssl' => $this->ca === null ? [] : ['cafile' => $this->ca]]);
        $body = @file_get_contents("$this->endpoint/api/v1/records", false, $context);
        $said = json_decode((string) $body, true);
        $results = is_array($said) ? $said['results'] ?? [] : [];
        if (count($results) === count($lines)) {
            return $results;
        }
        $this->tell('http', 'the daemon did not take the records: ' . ($said['error']['message'] ?? 'no answer'));
        return [];
    }

    /**
     * Writes unacknowledged lines to the spool folder, for a later request.
     *
     * @param array<string, string> $lines
     */
    private function keep(array $lines): void
    {
        $text = implode("\n", $lines) . "\n";
        $file = sprintf('%s/%016x-%s', $this->spool, (int) (microtime(true) * 1e6), bin2hex(random_bytes(6)));
        if (!is_dir($this->spool)) {
            @mkdir($this->spool, 0700, true);
        }
        $isKept = $this->isOurs() && $this->write($file, $text);
        if ($isKept) {
            $this->counts['spooled'] += count($lines);
            return;
        }
        $this->counts['dropped'] += count($lines);
        if ($this->onDrop === null) {
            $this->tell('drop', count($lines) . " calls are lost: the daemon is away, and $this->spool takes no more");
            return;
        }
        foreach ($lines as $line) {
            ($this->onDrop)(json_decode($line, true));
        }
    }

    /**
     * Whether the spool folder may be used. Every user can write to the system's temporary folder: another user who made the
     * spool folder first could read records, or remove them.
     */
    private function isOurs(): bool
    {
        clearstatcache(true, $this->spool);
        $found = @lstat($this->spool);
        if ($found === false) {
            return false;
        }
        $isFolder = ($found['mode'] & 0170000) === 0040000;
        if ($isFolder && ($found['mode'] & 0002) === 0 && (!function_exists('posix_geteuid') || $found['uid'] === posix_geteuid())) {
            return true;
        }
        $this->tell('spool', "$this->spool is not used: it must be a folder of this user's that others may not write to. hint: set TALLYD_SPOOL");
        return false;
    }

    /** Writes a spooled file completely, or not at all. */
    private function write(string $file, string $text): bool
    {
        $taken = array_sum(array_map(fn ($path) => (int) @filesize($path), glob("$this->spool/*.ndjson") ?: []));
        $isWritten = $taken + strlen($text) <= self::SPOOL_BYTES
            && @file_put_contents("$file.new", $text) === strlen($text)
            && @rename("$file.new", "$file.ndjson");
        if (!$isWritten) {
            @unlink("$file.new");
        }
        return $isWritten;
    }

    /** Sends spooled files, oldest first. False: some are left. */
    private function sendSpooled(float $deadline): bool
    {
        $files = glob("$this->spool/*.ndjson") ?: [];
        if ($files === [] || !$this->isOurs()) {
            return $files === [];
        }
        foreach (array_slice($files, 0, self::SPOOLED_AT_ONCE) as $path) {
            $file = @fopen($path, 'r');
            // Another process sends it. Even if two did, the ids would prevent a second count.
            if ($file === false || !flock($file, LOCK_EX | LOCK_NB)) {
                continue;
            }
            $lines = [];
            foreach (explode("\n", trim((string) stream_get_contents($file))) as $line) {
                $id = json_decode($line, true)['id'] ?? null;
                if (is_string($id)) {
                    $lines[$id] = $line;
                }
            }
            $left = $this->deliver($lines, $deadline);
            // Acknowledged calls are removed at once, because the daemon forgets ids after two days.
            if ($left === []) {
                @unlink($path);
            } elseif (count($left) < count($lines)) {
                $this->write(substr($path, 0, -strlen('.ndjson')), implode("\n", $left) . "\n");
            }
            fclose($file);
            if (microtime(true) >= $deadline) {
                break;
            }
        }
        return (glob("$this->spool/*.ndjson") ?: []) === [];
    }

    private function reject(string $id, string $code, string $message): void
    {
        $this->counts['rejected']++;
        if ($this->onReject !== null) {
            ($this->onReject)($id, $code, $message);
            return;
        }
        $this->tell("reject $code", "record $id was refused ($code): $message");
    }

    /** Logs the first message of each kind. */
    private function tell(string $kind, string $message): void
    {
        if (!isset($this->told[$kind])) {
            $this->told[$kind] = true;
            error_log("tallyd: $message");
        }
    }
}
