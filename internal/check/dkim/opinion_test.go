package dkim

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"
)

// Another implementation takes what is signed here, and here what it signs is taken, in all
// canonicalisations.
func TestAnotherImplementation(t *testing.T) {
	all, z := keys(t)
	now := time.Now() // which it takes from nobody
	for name, text := range odd {
		if name == "no empty line" {
			continue // which it takes for no message
		}
		for _, header := range []Canon{Relaxed, Simple} {
			for _, body := range []Canon{Relaxed, Simple} {
				ours := signed(t, text, all, SignOptions{Now: now, Header: header, Body: body})
				for i, k := range all {
					if err := opinionIn(ours, i, z); err != nil {
						t.Errorf("%s, %v/%v: our signature %d is not taken: %v", name, header, body, i, err)
					}
					var theirs bytes.Buffer
					err := dkim.Sign(&theirs, strings.NewReader(text), &dkim.SignOptions{
						Domain: k.Domain, Selector: k.Selector, Signer: k.Signer,
						HeaderCanonicalization: dkim.Canonicalization(header.String()), BodyCanonicalization: dkim.Canonicalization(body.String()),
						HeaderKeys: []string{"From", "From", "To", "Subject", "Subject", "Subject", "List-Id", "Missing"},
					})
					if err != nil {
						t.Fatal(name, err)
					}
					if r := verify(t, theirs.String(), z, now); r[0].Status != Pass {
						t.Errorf("%s, %v/%v: its signature by %s: %+v", name, header, body, k.Selector, r[0])
					}
				}
			}
		}
	}
}
