package tallyd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The programs of README.md, each in a module of its own, are compiled; the first one also runs.
func TestThePagesPrograms(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	here, _ := filepath.Abs(".")
	module := fmt.Sprintf("module page\n\ngo 1.19\n\nrequire github.com/tallyd/tallyd/clients/go v0.0.0\n\nreplace github.com/tallyd/tallyd/clients/go => %s\n", here)
	blocks := strings.Split(string(readme), "```go\n")[1:]
	if len(blocks) < 2 {
		t.Fatal(len(blocks))
	}
	d := startDaemon(t)
	for at, block := range blocks {
		program, _, _ := strings.Cut(block, "```")
		folder := t.TempDir()
		os.WriteFile(filepath.Join(folder, "go.mod"), []byte(module), 0o644)
		os.WriteFile(filepath.Join(folder, "main.go"), []byte(program), 0o644)
		for _, arguments := range [][]string{{"vet", "."}, {"run", "."}} {
			command := exec.Command("go", arguments...)
			command.Dir = folder
			command.Env = append(os.Environ(), "TALLYD_ENDPOINT=unix:"+d.socket)
			if said, err := command.CombinedOutput(); err != nil || len(said) > 0 {
				t.Fatalf("program %d: go %v: %v\n%s", at+1, arguments, err, said)
			}
		}
	}
	d.until("SELECT provider, model, input_tokens, output_tokens, user_id, app FROM api_usage_log",
		"claude|claude-sonnet-5|1200|350|u-42|web")
}
