package directory

import (
	"bytes"
	"testing"
)

// A secret is the same at every start, another for every purpose, and not the one that it is
// made of.
func TestSecret(t *testing.T) {
	f := setUp(t)
	first, err := f.Secret("srs")
	if err != nil || len(first) != 32 || bytes.Equal(first, f.secret) {
		t.Fatalf("%x %v", first, err)
	}
	other, _ := f.Secret("other")
	f.Close()
	f.open(t)
	again, _ := f.Secret("srs")
	if bytes.Equal(first, other) || !bytes.Equal(first, again) {
		t.Errorf("%x, %x, then %x", first, other, again)
	}
}
