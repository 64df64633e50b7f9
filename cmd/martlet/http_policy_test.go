package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/publish"
	"github.com/martlet-mail/martlet/internal/sts"
)

// The policy of a hosted domain, and of no other, is what its TXT record names, and changes
// with its settings; others can read it.
func TestOwnPolicy(t *testing.T) {
	config, address := startWithHTTP(t)
	get := func(host string) (int, string, string) {
		req, err := http.NewRequest("GET", "http://"+address+"/.well-known/mta-sts.txt", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header.Get("Content-Type"), string(text)
	}
	if got := command(t, "", "domain", "add", "hosted.test", "--config", config); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	for _, host := range []string{"hosted.test", "mta-sts.other.test", "mta-sts.", "mta-sts.a b", "mta-sts.sub.hosted.test", address, "x"} {
		if code, _, text := get(host); code != http.StatusNotFound {
			t.Errorf("%s: %d %s", host, code, text)
		}
	}
	read := func(host string) (*sts.Policy, string) {
		code, kind, text := get(host)
		p, err := sts.ParsePolicy([]byte(text))
		if code != http.StatusOK || !strings.HasPrefix(kind, "text/plain") || err != nil {
			t.Fatalf("%d %s %q %v", code, kind, text, err)
		}
		return p, publish.PolicyID(text)
	}
	p, id := read("MTA-STS.Hosted.TEST:443")
	if p.Mode != sts.Testing || len(p.MX) != 1 {
		t.Errorf("%+v", p)
	}
	shown := command(t, "", "dns", "show", "hosted.test", "--config", config)
	if shown.code != 0 || !strings.Contains(shown.out, fmt.Sprintf("id=%s", id)) {
		t.Errorf("dns show has another id than %s: %+v", id, shown)
	}
	for _, mode := range []sts.Mode{sts.Enforce, sts.None} {
		if got := command(t, "", "domain", "set", "hosted.test", "mta-sts="+string(mode), "--config", config); got.code != 0 {
			t.Fatalf("%+v", got)
		}
		if now, newID := read("mta-sts.hosted.test"); now.Mode != mode || newID == id {
			t.Errorf("%+v, id %s as before", now, newID)
		}
	}
}
