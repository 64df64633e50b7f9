package rfc822

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
)

// What is wrong with a packed file is said once, however many layers it is read through.
func TestErrorsAreSaidOnce(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, strings.Repeat("mail ", 1000))
	z.Close()
	in, _, err := Unpack(bytes.NewReader(packed.Bytes()[:packed.Len()-9]))
	if err != nil {
		t.Fatal(err)
	}
	outer := &Ratio{R: in, In: &Counter{}}
	_, err = io.Copy(io.Discard, outer)
	err = Named("whole.zip", Named("cut.mbox.gz", err))
	var f *fault.Error
	if !errors.As(err, &f) || f.Kind != fault.Corrupt || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	if want := "whole.zip: cut.mbox.gz: the packed file is damaged or cut short: unexpected EOF"; f.Say != want || f.Cause != io.ErrUnexpectedEOF {
		t.Errorf("%q, because of %v", f.Say, f.Cause)
	}
	if plain := errors.New("other"); Named("x", plain) != plain {
		t.Error("an error without a sentence got one")
	}
}
