package tallyd

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An https:// endpoint is trusted by the authorities of CA, and by no other.
func TestTheAuthoritiesOfAnHTTPSEndpoint(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(to http.ResponseWriter, _ *http.Request) {
		io.WriteString(to, `{"results":[{"ok":true}]}`)
	}))
	server.Config.ErrorLog = nil
	server.StartTLS()
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}
	if err := os.WriteFile(file, pem.EncodeToMemory(&block), 0o600); err != nil {
		t.Fatal(err)
	}
	recorder := newRecorder(t, Options{Endpoint: server.URL, Token: "t", CA: file, Quiet: true})
	if _, err := recorder.RecordAndWait(within(t), Record{Provider: "rentcast"}); err != nil {
		t.Fatal(err)
	}
	stranger := newRecorder(t, Options{Endpoint: server.URL, Token: "t", Quiet: true, BackoffMin: time.Millisecond})
	stranger.Record(Record{Provider: "rentcast"})
	for end := time.Now().Add(20 * time.Second); stranger.Stats().LastError == ""; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("an unknown authority is trusted")
		}
	}
	if _, err := New(Options{Endpoint: server.URL, CA: "/nonexistent"}); err == nil {
		t.Error("a missing file is taken")
	}
}
