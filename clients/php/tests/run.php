<?php

// The PHP client's tests, without a framework: `make test-php`. Each function `test…` is one test; a failed check throws.

declare(strict_types=1);

use Tallyd\Recorder;
use Tallyd\StreamUsage;
use Tallyd\Usage;

ini_set('assert.exception', '1');
error_reporting(E_ALL);
set_error_handler(fn ($level, $message, $file, $line) => (error_reporting() & $level) ? throw new ErrorException($message, 0, $level, $file, $line) : true);
spl_autoload_register(fn ($class) => require __DIR__ . '/../src/' . substr(strtr($class, '\\', '/'), 7) . '.php');
foreach (getenv() as $name => $_) {
    if (str_starts_with($name, 'TALLYD_') && $name !== 'TALLYD_BIN') {
        putenv($name);
    }
}

function same(mixed $found, mixed $wanted, string $what = ''): void
{
    if ($found !== $wanted) {
        throw new Exception("$what\nfound  " . json_encode($found) . "\nwanted " . json_encode($wanted));
    }
}

function until(string $what, callable $holds): void
{
    for ($deadline = microtime(true) + 60; microtime(true) < $deadline; usleep(10_000)) {
        if ($holds()) {
            return;
        }
    }
    throw new Exception("waited in vain: $what");
}

function vectors(string $name): array
{
    return json_decode(file_get_contents(__DIR__ . "/../../vectors/$name.json"), true, flags: JSON_THROW_ON_ERROR);
}

function sorted(array $value): array
{
    ksort($value);
    return array_map(fn ($one) => is_array($one) && !array_is_list($one) ? sorted($one) : $one, $value);
}

/** A real daemon with its own data folder and PostgreSQL. */
final class Daemon
{
    public readonly string $home;
    public readonly string $socket;
    public readonly string $http;
    public readonly string $tcp;
    private array $environment;
    private mixed $process = null;

    public function __construct()
    {
        $this->home = sys_get_temp_dir() . '/tallyd-php-' . bin2hex(random_bytes(4));
        mkdir($this->home, 0755);
        $this->socket = "$this->home/data/tallyd.sock";
        [$this->http, $this->tcp] = [self::freeAddress(), self::freeAddress()];
        $this->environment = [
            ...getenv(),
            'TALLYD_DATA_DIR' => "$this->home/data", 'TALLYD_HTTP_LISTEN' => $this->http, 'TALLYD_LISTEN_TCP' => $this->tcp,
            'TALLYD_LISTEN_TCP_TOKENS' => 's3cret-of-16-characters', 'TALLYD_OTLP_GRPC_LISTEN' => '',
            'TALLYD_FLUSHER_FLUSH_INTERVAL_MS' => '20', 'TALLYD_FLUSHER_RETRY_MIN_MS' => '10', 'TALLYD_FLUSHER_RETRY_MAX_MS' => '100',
        ];
        unset($this->environment['TALLYD_BIN']);
        $this->up();
    }

    /** A port below the range for outgoing connections, so that none of them takes it before the daemon does. */
    private static function freeAddress(): string
    {
        do {
            $address = '127.0.0.1:' . random_int(20_000, 32_000);
        } while (@stream_socket_server("tcp://$address") === false);
        return $address;
    }

    private static function program(): string
    {
        return getenv('TALLYD_BIN') ?: realpath(__DIR__ . '/../../../target/debug/tallyd');
    }

    public function up(): void
    {
        $log = ['file', "$this->home/log", 'a'];
        $this->process = proc_open([self::program(), 'serve'], [['file', '/dev/null', 'r'], $log, $log], $pipes, $this->home, $this->environment);
        until('the daemon accepts records', fn () => @stream_socket_client("unix://$this->socket") !== false);
    }

    public function kill(int $signal = 9): void
    {
        proc_terminate($this->process, $signal);
        until('the daemon has ended', fn () => !proc_get_status($this->process)['running']);
        proc_close($this->process);
    }

    public function run(string ...$arguments): array
    {
        $process = proc_open([self::program(), ...$arguments], [1 => ['pipe', 'w'], 2 => ['pipe', 'w']], $pipes, $this->home, $this->environment);
        $said = trim(stream_get_contents($pipes[1]));
        $error = stream_get_contents($pipes[2]);
        return [proc_close($process), $said, $error];
    }

    public function until(string $sql, string $wanted): void
    {
        $found = '';
        try {
            until($sql, function () use ($sql, $wanted, &$found) {
                $found = $this->run('psql', '--', '-X', '-At', '-c', $sql)[1];
                return $found === $wanted;
            });
        } catch (Exception $error) {
            throw new Exception("$sql is $found, not $wanted\n" . substr(file_get_contents("$this->home/log"), -2000));
        }
    }

    public function token(string $role): string
    {
        $made = [];
        until('a token is made', function () use ($role, &$made) {
            [$code, $said] = $this->run('token', 'create', '--name', 'test', '--role', $role, '--json');
            $made = json_decode($said, true);
            return $code === 0 && is_array($made);
        });
        // The daemon answers 503 until it has checked the schema.
        until('the daemon takes records over HTTP', function () use ($made) {
            $http = ['method' => 'POST', 'header' => "Authorization: Bearer $made[token]", 'content' => '', 'ignore_errors' => true];
            $headers = @get_headers("http://$this->http/api/v1/records", context: stream_context_create(['http' => $http]));
            return $headers !== false && !preg_match('/ (401|503) /', $headers[0]);
        });
        return $made['token'];
    }

    public function end(): void
    {
        $this->kill(15);
        exec('rm -rf ' . escapeshellarg($this->home));
    }
}

$daemon = null;

function daemon(): Daemon
{
    global $daemon;
    return $daemon ??= new Daemon();
}

function recorder(string $endpoint, mixed ...$options): Recorder
{
    return new Recorder($endpoint, ...[...['spool' => daemon()->home . '/spool', 'timeout' => 20.0], ...$options]);
}

function testARecordIsALineWithItsFields(): void
{
    foreach (vectors('records') as $vector) {
        $record = $vector['record'];
        [$id, $line] = Recorder::line($record);
        $found = json_decode($line, true);
        same($found['id'], $id);
        // The client makes an id if the record does not state one.
        if (!isset($record['id'])) {
            same((bool) preg_match('/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/', $id), true, $id);
            unset($found['id']);
        }
        if (!isset($record['occurred_at'])) {
            unset($found['occurred_at']);
        }
        same(sorted($found), sorted($record), $vector['name']);
    }
}

function testARecordHasItsTagsAndThoseOfTheRecorder(): void
{
    $recorder = recorder(daemon()->socket, app: 'tagged', tags: ['environment' => 'production', 'team' => 'none', 7 => 'seven']);
    $recorder->record('acme', ['tags' => ['team' => 'ads', 'build' => 12, 'customer' => null]]);
    $recorder->record('acme', ['model' => 'm', 'tags' => ['environment' => null, 'team' => null, 7 => null]]);
    same([$recorder->flush(), $recorder->stats()['rejected']], [true, 0]);
    daemon()->until(
        "SELECT string_agg(coalesce(tags::text, 'none'), ' ' ORDER BY model) FROM api_usage_log WHERE app = 'tagged'",
        '{"7": "seven", "team": "ads", "build": "12", "environment": "production"} none',
    );
}

function testUsageIsReadAsEveryClientReadsIt(): void
{
    foreach (vectors('usage') as $vector) {
        $family = ['openrouter' => 'openai'][$vector['vendor']] ?? $vector['vendor'];
        if (isset($vector['events'])) {
            $stream = new StreamUsage($family);
            array_map($stream->event(...), $vector['events']);
            $fields = $stream->result();
        } else {
            $fields = Usage::of($family, $vector['answer']);
        }
        if ($vector['record'] === null) {
            same($fields, null, $vector['name']);
            continue;
        }
        $wanted = $vector['record'];
        $fields = ['provider' => $wanted['provider'], ...$fields ?? []];
        if (isset($fields['cost_usd'], $wanted['cost_usd'])) {
            same((float) $fields['cost_usd'], (float) $wanted['cost_usd'], $vector['name']);
            $fields['cost_usd'] = $wanted['cost_usd'];
        }
        same(sorted($fields), sorted($wanted), $vector['name']);
    }
    same(Usage::fields('openai', ['model' => 'm'])['metadata'], ['tallyd.not_understood' => 'usage']);
}

function testARecordArrivesOverEachWay(): void
{
    $ways = ['unix' => daemon()->socket, 'tcp' => 'tcp://s3cret-of-16-characters@' . daemon()->tcp, 'http' => 'http://' . daemon()->http];
    foreach ($ways as $way => $endpoint) {
        $rejected = [];
        $token = $way === 'http' ? daemon()->token('ingest') : null;
        $recorder = recorder($endpoint, token: $token, app: $way, onReject: function (...$what) use (&$rejected) {
            $rejected[] = $what[1];
        });
        $id = $recorder->record('Claude', ['model' => 'claude-sonnet-4-20250514', 'input_tokens' => 100_000, 'user_id' => 'u-1', 'metadata' => ['a' => '<b>']]);
        $recorder->record('x', ['input_tokens' => -1]);
        same($recorder->record('x', ['cost_usd' => 0.5]), null);
        same($recorder->record('x', ['model' => "\xff"]), null);
        same($recorder->flush(), true, $way);
        same($rejected, ['client', 'client', 'range'], $way);
        same($recorder->stats(), ['recorded' => 4, 'settled' => 2, 'rejected' => 3, 'spooled' => 0, 'dropped' => 0], $way);
        daemon()->until(
            "SELECT id, provider, trim_scale(cost_usd), user_id, metadata->>'a' FROM api_usage_log WHERE app = '$way'",
            "$id|claude|0.3|u-1|<b>",
        );
    }
}

function testAManyLinesExchangeReadsWhileItWrites(): void
{
    $recorder = recorder(daemon()->socket, app: 'many');
    for ($at = 0; $at < 20_000; $at++) {
        $recorder->record('rentcast', ['endpoint' => '/avm']);
    }
    same($recorder->flush(), true);
    daemon()->until("SELECT count(*), count(DISTINCT id) FROM api_usage_log WHERE app = 'many'", '20000|20000');
}

function testWithoutADaemonARequestIsHeldUpForABoundedTimeAndNothingIsLost(): void
{
    $spool = daemon()->home . '/spool-away';
    $away = recorder('/nowhere/tallyd.sock', app: 'away', timeout: 0.2, spool: $spool);
    // A daemon that accepts and does not answer.
    $path = daemon()->home . '/silent.sock';
    $server = stream_socket_server("unix://$path");
    $silent = recorder($path, app: 'away', timeout: 0.2, spool: $spool);
    foreach ([$away, $silent] as $recorder) {
        $recorder->record('rentcast');
        $begun = microtime(true);
        same($recorder->flush(), false);
        same(microtime(true) - $begun < 2, true, 'it returns in time');
        same($recorder->stats()['spooled'], 1);
    }
    fclose($server);
    same(count(glob("$spool/*.ndjson")), 2);
    $back = recorder(daemon()->socket, app: 'away', spool: $spool);
    $back->record('rentcast');
    same($back->flush(), true);
    same(glob("$spool/*"), []);
    daemon()->until("SELECT count(*), count(DISTINCT id) FROM api_usage_log WHERE app = 'away'", '3|3');
}

function testASpoolFolderThatOthersMayWriteToIsNotUsed(): void
{
    $spool = daemon()->home . '/spool-open';
    mkdir($spool);
    chmod($spool, 0777);
    $target = daemon()->home . '/spool-target';
    mkdir($target, 0700);
    symlink($target, daemon()->home . '/spool-link');
    foreach ([$spool, daemon()->home . '/spool-link'] as $folder) {
        $dropped = [];
        $recorder = recorder('/nowhere/tallyd.sock', timeout: 0.05, spool: $folder, onDrop: function ($record) use (&$dropped) {
            $dropped[] = $record['user_id'];
        });
        $recorder->record('acme', ['user_id' => 'u']);
        same([$recorder->flush(), $dropped, glob("$folder/*")], [false, ['u'], []], $folder);
    }
}

function testWhatIsAcknowledgedOfASpooledFileLeavesIt(): void
{
    $spool = daemon()->home . '/spool-part';
    $away = recorder('/nowhere/tallyd.sock', timeout: 0.05, spool: $spool);
    $away->record('acme', ['user_id' => 'part-1']);
    $away->record('acme', ['user_id' => 'part-2']);
    same([$away->flush(), $away->stats()['spooled']], [false, 2]);
    // A daemon that acknowledges one line and then ends.
    $path = daemon()->home . '/part.sock';
    $server = <<<'PHP'
        $server = stream_socket_server("unix://$argv[1]");
        $client = stream_socket_accept($server, 60);
        fgets($client);
        fwrite($client, "{\"ok\":true}\n");
        PHP;
    $process = proc_open([PHP_BINARY, '-r', $server, '--', $path], [], $pipes);
    until('it listens', fn () => file_exists($path));
    same(recorder($path, timeout: 5.0, spool: $spool)->flush(), false);
    proc_close($process);
    $files = glob("$spool/*");
    same(count($files), 1);
    same([substr_count(file_get_contents($files[0]), 'part-1'), substr_count(file_get_contents($files[0]), 'part-2')], [0, 1]);
}

function testWhatCanBeNeitherDeliveredNorSpooledIsDroppedAndTold(): void
{
    $dropped = [];
    $file = daemon()->home . '/a-file';
    touch($file);
    $recorder = recorder('/nowhere/tallyd.sock', timeout: 0.05, spool: $file, onDrop: function ($record) use (&$dropped) {
        $dropped[] = $record['provider'];
    });
    $recorder->record('x');
    same($recorder->flush(), false);
    same([$dropped, $recorder->stats()['dropped']], [['x'], 1]);
}

function testADisabledRecorderKeepsNothing(): void
{
    $recorder = recorder('/nowhere/tallyd.sock', disabled: true);
    same(is_string($recorder->record('x')), true);
    same([$recorder->flush(), $recorder->stats()['spooled']], [true, 0]);
    foreach (['tcp://h', 'ftp://h', 'unix:'] as $endpoint) {
        try {
            new Recorder($endpoint);
            throw new Exception("$endpoint is taken");
        } catch (InvalidArgumentException) {
        }
    }
}

/** Each request is a program of its own, as in a real web server. The daemon is killed between and during requests. */
function testADaemonThatIsKilledBetweenRequestsLosesAndDoublesNothing(): void
{
    $program = <<<'PHP'
        spl_autoload_register(fn ($class) => require $_SERVER['argv'][1] . substr(strtr($class, '\\', '/'), 7) . '.php');
        $recorder = new Tallyd\Recorder(app: 'killed', timeout: 2.0);
        for ($at = 0; $at < 20; $at++) {
            $recorder->record('rentcast', ['endpoint' => '/avm']);
        }
        PHP;
    $environment = [...getenv(), 'TALLYD_ENDPOINT' => 'unix:' . daemon()->socket, 'TALLYD_SPOOL' => daemon()->home . '/spool-killed'];
    $request = fn () => proc_open(
        [PHP_BINARY, '-r', $program, '--', __DIR__ . '/../src/'],
        [1 => ['file', '/dev/null', 'w'], 2 => ['file', daemon()->home . '/requests', 'a']],
        $pipes, null, $environment,
    );
    $count = 0;
    for ($round = 0; $round < 4; $round++) {
        // Some of the round's requests find the daemon, some lose their answers, some find nobody.
        $processes = [];
        for ($at = 0; $at < 12; $at++, $count += 20) {
            $processes[] = $request();
            usleep(5_000 * $round);
            if ($at === 8) {
                daemon()->kill();
            }
        }
        foreach ($processes as $process) {
            same(proc_close($process), 0);
        }
        daemon()->up();
    }
    $last = recorder(daemon()->socket, app: 'last', spool: daemon()->home . '/spool-killed');
    until('the spool is empty', fn () => $last->flush());
    daemon()->until("SELECT count(*), count(DISTINCT id) FROM api_usage_log WHERE app = 'killed'", "$count|$count");
    [$code, $said, $error] = daemon()->run('reconcile');
    same($code, 0, $said . $error);
}

function testThePagesPrograms(): void
{
    $blocks = explode("```php\n", file_get_contents(__DIR__ . '/../README.md'));
    foreach (array_slice($blocks, 1) as $at => $block) {
        $file = daemon()->home . "/page-$at.php";
        $load = 'spl_autoload_register(fn ($class) => require ' . var_export(__DIR__ . '/../src/', true)
            . " . substr(strtr(\$class, '\\\\', '/'), 7) . '.php');";
        file_put_contents($file, str_replace("require 'vendor/autoload.php';", $load, strtok($block, '`')));
        $environment = [...getenv(), 'TALLYD_ENDPOINT' => 'unix:' . daemon()->socket, 'TALLYD_SPOOL' => daemon()->home . '/spool'];
        $process = proc_open([PHP_BINARY, $file], [1 => ['pipe', 'w'], 2 => ['pipe', 'w']], $pipes, null, $environment);
        $said = stream_get_contents($pipes[1]) . stream_get_contents($pipes[2]);
        same(proc_close($process), 0, $said);
        same($said, '');
    }
    daemon()->until(
        "SELECT string_agg(concat_ws(' ', provider, model, input_tokens, output_tokens, cache_read_tokens, user_id), ',' ORDER BY input_tokens) FROM api_usage_log WHERE app = 'page'",
        'openai gpt-4o 500 50 400 u-42,claude claude-sonnet-5 1200 350 0 u-42',
    );
}

$failed = 0;
$only = $argv[1] ?? '';
$begun = microtime(true);
ini_set('error_log', sys_get_temp_dir() . '/tallyd-php-test.log');
foreach (get_defined_functions()['user'] as $function) {
    $name = (new ReflectionFunction($function))->getName();
    if (!str_starts_with($name, 'test') || !str_contains($name, $only)) {
        continue;
    }
    try {
        $name();
        echo "ok      $name\n";
    } catch (Throwable $error) {
        $failed++;
        echo "FAILED  $name: {$error->getMessage()} ({$error->getLine()})\n";
    }
}
$daemon?->end();
printf("%s in %.1f s\n", $failed === 0 ? 'all passed' : "$failed FAILED", microtime(true) - $begun);
exit($failed === 0 ? 0 : 1);
