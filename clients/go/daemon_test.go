package tallyd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const patience = 60 * time.Second

// daemon is a real daemon with its own data folder and PostgreSQL.
type daemon struct {
	t       *testing.T
	home    string
	socket  string
	http    string
	tcp     string
	environ []string
	process *exec.Cmd
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("waited in vain: %s", what)
}

// freeAddress has a port below the range for outgoing connections, so that none of them takes it before the daemon does.
func freeAddress() string {
	random := rand.New(rand.NewSource(time.Now().UnixNano()))
	for {
		address := fmt.Sprintf("127.0.0.1:%d", 20_000+random.Intn(12_000))
		if listener, err := net.Listen("tcp", address); err == nil {
			listener.Close()
			return address
		}
	}
}

func startDaemon(t *testing.T) *daemon {
	// A socket's path has 107 bytes at most, and PostgreSQL's user has to enter the folder, so it is not the test's own.
	home, err := os.MkdirTemp("", "tallyd-go-")
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(home, 0o755)
	d := &daemon{t: t, home: home, socket: filepath.Join(home, "data/tallyd.sock"), http: freeAddress(), tcp: freeAddress()}
	for _, setting := range os.Environ() {
		if !strings.HasPrefix(setting, "TALLYD_") {
			d.environ = append(d.environ, setting)
		}
	}
	d.environ = append(d.environ,
		"TALLYD_DATA_DIR="+filepath.Join(home, "data"), "TALLYD_HTTP_LISTEN="+d.http, "TALLYD_LISTEN_TCP="+d.tcp,
		"TALLYD_LISTEN_TCP_TOKENS=s3cret-of-16-characters", "TALLYD_OTLP_GRPC_LISTEN=",
		"TALLYD_FLUSHER_FLUSH_INTERVAL_MS=20", "TALLYD_FLUSHER_RETRY_MIN_MS=10", "TALLYD_FLUSHER_RETRY_MAX_MS=100")
	t.Cleanup(func() {
		if d.process != nil {
			d.process.Process.Signal(os.Interrupt)
			d.process.Wait()
		}
		os.RemoveAll(home)
	})
	d.up()
	return d
}

func program() string {
	if program := os.Getenv("TALLYD_BIN"); program != "" {
		return program
	}
	program, _ := filepath.Abs("../../target/debug/tallyd")
	return program
}

func (d *daemon) up() {
	d.t.Helper()
	log, err := os.OpenFile(filepath.Join(d.home, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	d.process = exec.Command(program(), "serve")
	d.process.Env, d.process.Dir, d.process.Stdout, d.process.Stderr = d.environ, d.home, log, log
	if err := d.process.Start(); err != nil {
		d.t.Fatal(err)
	}
	until(d.t, "the daemon accepts records", func() bool {
		conn, err := net.Dial("unix", d.socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

func (d *daemon) kill() {
	d.process.Process.Kill()
	d.process.Wait()
	d.process = nil
}

func (d *daemon) run(arguments ...string) (string, error) {
	command := exec.Command(program(), arguments...)
	command.Env, command.Dir = d.environ, d.home
	var errors bytes.Buffer
	command.Stderr = &errors
	output, err := command.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, errors.String())
	}
	return strings.TrimSpace(string(output)), err
}

// sql is the answer to a statement; empty if it fails, as before the first start.
func (d *daemon) sql(statement string) string {
	answer, _ := d.run("psql", "--", "-X", "-At", "-c", statement)
	return answer
}

func (d *daemon) until(statement, wanted string) {
	d.t.Helper()
	var found string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if found = d.sql(statement); found == wanted {
			return
		}
	}
	log, _ := os.ReadFile(filepath.Join(d.home, "log"))
	d.t.Fatalf("%s is %q, not %q\n%s", statement, found, wanted, log)
}

func (d *daemon) reconcile() {
	d.t.Helper()
	if said, err := d.run("reconcile"); err != nil {
		d.t.Fatal(said, err)
	}
}

func (d *daemon) token(role string) string {
	d.t.Helper()
	var made struct{ Token string }
	until(d.t, "a token is made", func() bool {
		said, err := d.run("token", "create", "--name", "test", "--role", role, "--json")
		return err == nil && json.Unmarshal([]byte(said), &made) == nil
	})
	return made.Token
}
