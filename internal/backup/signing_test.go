package backup

import (
	"crypto/ed25519"
	"crypto/rsa"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
)

// The keys that sign a domain's mail and what is set for it come back with it: what was
// published stays true.
func TestSigningKeysComeBack(t *testing.T) {
	w := populated(t, "carol")
	domains, err := w.Directory.Domains(ctx)
	w.must(t, err)
	name := domains[0].Name
	_, err = w.Directory.NextKeys(ctx, name)
	w.must(t, err)
	w.must(t, w.Directory.Set(ctx, name, map[string]string{"dmarc": "reject"}))
	w.must(t, w.Directory.SetPublished(ctx, name, []directory.DNSRecord{{Name: name, Type: "MX", Value: "10 mx." + name}}))
	was, err := w.Directory.MakeKeys(ctx, name)
	w.must(t, err)
	dir := filepath.Join(t.TempDir(), "backup")
	w.save(t, dir, SaveOptions{})

	e := elsewhere(t, dir, time.Time{})
	e.verify(t)
	now, err := e.Directory.Keys(ctx, name)
	if err != nil || len(now) != 4 || len(was) != 4 {
		t.Fatalf("%d of %d keys, %v", len(now), len(was), err)
	}
	slices.SortFunc(was, func(a, b directory.SigningKey) int { return strings.Compare(a.Selector, b.Selector) }) // as Keys has them
	for i, k := range was {
		same := now[i].Selector == k.Selector && now[i].State == k.State && now[i].Created.Equal(k.Created)
		switch private := k.Signer.(type) {
		case ed25519.PrivateKey:
			same = same && private.Equal(now[i].Signer)
		case *rsa.PrivateKey:
			same = same && private.Equal(now[i].Signer)
		}
		if !same {
			t.Errorf("%s came back as %+v", k.Selector, now[i])
		}
	}
	if s, err := e.Directory.Settings(ctx, name); err != nil || s.DMARC != "reject" {
		t.Errorf("%+v %v", s, err)
	}
	if made, err := e.Directory.Published(ctx, name); err != nil || len(made) != 1 {
		t.Errorf("%v %v", made, err)
	}
}
