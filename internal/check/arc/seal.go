package arc

import (
	"context"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/check/dkim"
	"github.com/martlet-mail/martlet/internal/fault"
)

// SealOptions of Seal.
type SealOptions struct {
	Now time.Time
	// Chain is what Verify found of the message as it came in.
	Chain Result
	// Results is the authentication assessment: the value of the Authentication-Results field,
	// name of the service included (RFC 8601, 2.2, authres-payload), folded if it is long.
	Results string
	Random  io.Reader // for keys that need it; dkim.SignOptions.Random
}

// Seal returns the three fields that a host adds which sends a message on, ready to be put in
// front of it: after all other changes. header and body are of the message as it goes out;
// the fields of the chain are those that Chain is about.
//
// Nothing is returned, and nothing is wrong, where no seal is of use any more: the chain has
// failed before, or is full. A chain that fails now is sealed as such (RFC 8617, 5.1.2).
// Faults are those of dkim.Sign.
func Seal(header []byte, body io.Reader, key dkim.Key, opt SealOptions) ([]byte, error) {
	if opt.Chain.Over || opt.Chain.Highest >= MaxSets {
		return nil, nil
	}
	m := dkim.NewMessage(header, nil)
	i := strconv.Itoa(opt.Chain.Highest + 1)
	results, err := resultsField(i, opt.Results)
	if err != nil {
		return nil, err
	}
	message, err := dkim.Layout{
		Field: names[1], Lead: [][2]string{{"i", i}}, Also: []string{"dkim-signature"},
	}.Sign(header, body, []dkim.Key{key}, dkim.SignOptions{Now: opt.Now, Random: opt.Random})
	if err != nil {
		return nil, err
	}
	c := &chain{m: m}
	if c.collect(); c.r.Highest != opt.Chain.Highest {
		return nil, fault.New(fault.Invalid, "the chain of the message was not looked at")
	}
	var before []byte
	if opt.Chain.Status == Pass {
		before = dkim.Relaxed.AppendField(c.sealedBy(c.r.Highest), c.sets[c.r.Highest].seal)
	}
	for _, f := range [][]byte{results, message} {
		before = dkim.Relaxed.AppendField(before, fieldOf(f))
	}
	status := opt.Chain.Status
	if status == "" {
		status = None
	}
	seal, err := dkim.SignField(names[2], [][2]string{{"i", i}, {"cv", string(status)}, {"t", strconv.FormatInt(opt.Now.Unix(), 10)}}, before, key, opt.Random)
	if err != nil {
		return nil, err
	}
	return slices.Concat(seal, message, results), nil
}

// resultsField makes the first field of a set. What it holds has come through other hands: it
// must stay one field.
func resultsField(instance, results string) ([]byte, error) {
	b := []byte(names[0] + ": i=" + instance + "; " + results + "\r\n")
	m := dkim.NewMessage(append(slices.Clone(b), "\r\n"...), nil)
	if f := m.Fields(names[0]); m.Odd(context.Background()) != nil || len(f) != 1 || len(f[0].Raw) != len(b) {
		return nil, fault.New(fault.Invalid, "the authentication results are not the value of a field")
	}
	return b, nil
}

// fieldOf is the field that we have just written.
func fieldOf(b []byte) dkim.Field {
	colon := slices.Index(b, ':')
	return dkim.Field{Name: strings.ToLower(string(b[:colon])), Raw: b, Colon: colon}
}
