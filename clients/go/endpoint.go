package tallyd

import (
	"errors"
	"net/url"
	"os"
	"strings"
)

const defaultEndpoint = "unix:/run/tallyd/tallyd.sock"

// endpoint is the daemon's address: a Unix socket, TCP, or its HTTP API.
type endpoint struct {
	network, address string
	// url is the HTTP API's base, without a slash at its end.
	url   string
	token string
}

func firstOf(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

func parseEndpoint(text, token string) (endpoint, error) {
	text = firstOf(text, os.Getenv("TALLYD_ENDPOINT"), os.Getenv("TALLYD_SOCKET"), defaultEndpoint)
	token = firstOf(token, os.Getenv("TALLYD_TOKEN"))
	scheme, _, hasScheme := strings.Cut(text, "://")
	if !hasScheme {
		path := strings.TrimPrefix(text, "unix:")
		if path == "" {
			return endpoint{}, errors.New("tallyd: an endpoint is unix:/path, tcp://token@host:port or https://host, but it is empty")
		}
		return endpoint{network: "unix", address: path}, nil
	}
	parsed, err := url.Parse(text)
	if err != nil || parsed.Hostname() == "" {
		return endpoint{}, errors.New("tallyd: an endpoint is unix:/path, tcp://token@host:port or https://host")
	}
	token = firstOf(parsed.User.Username(), token)
	switch scheme {
	case "tcp":
		if parsed.Port() == "" {
			return endpoint{}, errors.New("tallyd: a TCP endpoint is tcp://token@host:port")
		}
		return endpoint{network: "tcp", address: parsed.Host, token: token}, nil
	case "http", "https":
		base := scheme + "://" + parsed.Host + strings.TrimRight(parsed.Path, "/")
		return endpoint{url: base, token: token}, nil
	}
	return endpoint{}, errors.New("tallyd: an endpoint begins with unix:, tcp://, http:// or https://, not " + scheme)
}

// String is the address without the token.
func (e endpoint) String() string {
	switch {
	case e.url != "":
		return e.url
	case e.network == "unix":
		return "unix:" + e.address
	}
	return "tcp://" + e.address
}
