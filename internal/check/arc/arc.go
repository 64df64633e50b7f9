// Package arc verifies and makes Authenticated Received Chains: what hosts that sent a message
// on say of it, sealed so that nobody behind them can change it.
//
// A chain that verifies proves who says so, not that it is true: whose word counts is for
// others to decide.
//
// RFC 8617; keys, canonical forms and signatures are those of DKIM (package dkim).
package arc

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/check/dkim"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Status is the chain validation status (RFC 8617, 4.4).
type Status string

const (
	None Status = "none" // there is no chain
	Pass Status = "pass"
	Fail Status = "fail" // for good: a chain that broke is none (RFC 8617, 5.2.1)
)

// MaxSets is how many sets a chain may have (RFC 8617, 4.2.1).
const MaxSets = 50

// Result is what became of a chain.
type Result struct {
	Status Status
	Reason string // why it fails: a sentence without a full stop
	// OldestPass is the instance from which on the message is as it was signed, 0 if that is
	// all of them (RFC 8617, 5.2). It says something of a chain that passes only.
	OldestPass int
	Sets       []Set // by instance, from 1 on; of a chain that fails only as far as its form is right
	Highest    int   // the highest instance that any field names, for the next seal
	Weak       bool  // the newest signature does not cover From: it says nothing of the author
	Over       bool  // the newest seal says that the chain failed before: nothing is added to it any more
	Temporary  bool  // it fails for want of a key that could not be looked up now
}

// Set is what one host added.
type Set struct {
	Instance int
	Domain   string // that sealed it
	Selector string
	Status   Status // cv= of the seal: what the host found of the chain before it
	// Results is the authentication assessment: ARC-Authentication-Results without the
	// instance, folded as it was.
	Results string
}

// Verify checks the chain of a message (RFC 8617, 5.2). Keys that cannot be looked up make it
// fail, as all errors do; Temporary says so.
func Verify(ctx context.Context, m *dkim.Message, keys *dkim.Keys, now time.Time) Result {
	c := &chain{m: m, keys: keys, now: now}
	c.collect()
	if c.r.Status != "" {
		return c.r
	}
	if err := m.Odd(ctx); err != nil {
		return c.fail(fault.Say(err))
	}
	if err := c.structure(); err != nil {
		return c.fail(fault.Say(err))
	}
	if err := c.verify(ctx); err != nil {
		c.r.Temporary = fault.Of(err) == fault.Unavailable
		return c.fail(fault.Say(err))
	}
	c.r.Status = Pass
	c.r.Weak = !c.sets[c.r.Highest].signature.Covers("From")
	c.r.OldestPass = c.oldestPass(ctx)
	return c.r
}

// chain is the check of one.
type chain struct {
	m    *dkim.Message
	keys *dkim.Keys
	now  time.Time
	sets [MaxSets + 1]set // by instance
	bad  error            // of collecting
	r    Result
}

// set is the fields of one instance.
type set struct {
	results, message, seal dkim.Field
	n                      [3]int // how many there are of each
	signature, sealed      *dkim.Signature
}

func (c *chain) fail(why string) Result {
	c.r.Status, c.r.Reason = Fail, why
	return c.r
}

// names are the fields of a set, in the order of a seal (RFC 8617, 5.1.1).
var names = [3]string{"ARC-Authentication-Results", "ARC-Message-Signature", "ARC-Seal"}

// collect sorts the fields into sets.
func (c *chain) collect() {
	total := 0
	for kind, name := range names {
		fields := c.m.Fields(name)
		total += len(fields)
		if len(fields) > MaxSets {
			c.r.Highest, c.r.Over = MaxSets, true
			c.fail(fmt.Sprintf("there are more than %d sets", MaxSets))
			return
		}
		for _, f := range fields {
			i, err := instance(kind, f)
			if err != nil {
				c.bad = err
				continue
			}
			c.r.Highest = max(c.r.Highest, i)
			s := &c.sets[i]
			s.n[kind]++
			*[...]*dkim.Field{&s.results, &s.message, &s.seal}[kind] = f
		}
	}
	if total == 0 {
		c.r.Status = None
	}
}

// instance reads i= of a field (RFC 8617, 4.2.1).
func instance(kind int, f dkim.Field) (int, error) {
	list := f.Value()
	if kind == 0 { // what follows is no list of tags
		end := strings.IndexByte(string(list), ';')
		if end < 0 {
			return 0, fault.New(fault.Invalid, "ARC-Authentication-Results has no instance")
		}
		list = list[:end]
	}
	tags, err := dkim.ParseTags(list)
	if err != nil {
		return 0, fault.New(fault.Invalid, names[kind]+": "+fault.Say(err))
	}
	v, _ := tags.Get("i")
	n, err := strconv.Atoi(v)
	if err != nil || len(v) > 2 || v[0] < '0' || n < 1 || n > MaxSets || kind == 0 && len(tags) > 1 {
		return 0, fault.New(fault.Invalid, names[kind]+" has no instance from 1 to "+strconv.Itoa(MaxSets))
	}
	return n, nil
}

// structure checks that the sets are whole and without a gap, and reads their signatures
// (RFC 8617, 5.2, steps 2 and 3).
func (c *chain) structure() error {
	if newest := &c.sets[c.r.Highest]; newest.n[2] > 0 {
		if tags, err := dkim.ParseTags(newest.seal.Value()); err == nil {
			cv, _ := tags.Get("cv")
			c.r.Over = cv == string(Fail)
		}
	}
	if c.bad != nil {
		return c.bad
	}
	for i := 1; i <= c.r.Highest; i++ {
		s := &c.sets[i]
		for kind, n := range s.n {
			if n != 1 {
				return fault.Newf(fault.Invalid, "set %d has %d %s fields", i, n, names[kind])
			}
		}
		if err := s.parse(c.now); err != nil {
			return fault.Newf(fault.Invalid, "set %d: %s", i, fault.Say(err))
		}
		cv, _ := s.sealed.Tags.Get("cv")
		if want := map[bool]Status{true: None, false: Pass}[i == 1]; cv != string(want) {
			return fault.Newf(fault.Invalid, "set %d says cv=%s, where only %s may stand", i, cv, want)
		}
		_, results, _ := strings.Cut(string(s.results.Value()), ";")
		c.r.Sets = append(c.r.Sets, Set{i, s.sealed.Domain, s.sealed.Selector, Status(cv), strings.TrimSpace(results)})
	}
	return nil
}

// parse reads the two signatures.
func (s *set) parse(now time.Time) (err error) {
	if s.sealed, err = dkim.ParseSignature(s.seal); err != nil {
		return fault.New(fault.Invalid, "ARC-Seal: "+fault.Say(err))
	}
	if _, has := s.sealed.Tags.Get("h"); has { // RFC 8617, 4.1.3
		return fault.New(fault.Invalid, "ARC-Seal must not have h=")
	}
	if s.signature, err = dkim.ParseSignature(s.message); err == nil {
		err = s.signature.ParseContent(dkim.Relaxed)
	}
	switch {
	case err != nil:
		return fault.New(fault.Invalid, "ARC-Message-Signature: "+fault.Say(err))
	case s.signature.Covers("ARC-Seal"): // RFC 8617, 4.1.2
		return fault.New(fault.Invalid, "ARC-Message-Signature must not sign ARC-Seal")
	}
	return s.signature.Timely(now)
}

// verify checks the newest signature of the message and all seals, the newest first (RFC 8617,
// 5.2, steps 4 and 6).
func (c *chain) verify(ctx context.Context) error {
	newest := c.sets[c.r.Highest].signature
	if newest.Weak() {
		return fault.New(fault.Denied, "l= leaves the end of the body open")
	}
	if _, err := newest.Verified(ctx, c.m, c.keys); err != nil {
		return broken(err, "ARC-Message-Signature", c.r.Highest)
	}
	for i := c.r.Highest; i >= 1; i-- {
		if _, err := c.keys.Check(ctx, c.sets[i].sealed, c.sealedBy(i), dkim.Relaxed); err != nil {
			return broken(err, "ARC-Seal", i)
		}
	}
	return nil
}

// broken is the failure of one signature: Denied, or Unavailable if it may go.
func broken(err error, field string, instance int) error {
	kind := fault.Denied
	if dkim.Temporary(err) {
		kind = fault.Unavailable
	}
	return fault.Newf(kind, "%s %d: %s", field, instance, fault.Say(err))
}

// sealedBy returns what a seal signs beside itself, in canonical form (RFC 8617, 5.1.1).
func (c *chain) sealedBy(instance int) (b []byte) {
	for i := 1; i <= instance; i++ {
		s := &c.sets[i]
		b = dkim.Relaxed.AppendField(b, s.results)
		b = dkim.Relaxed.AppendField(b, s.message)
		if i < instance {
			b = dkim.Relaxed.AppendField(b, s.seal)
		}
	}
	return b
}

// oldestPass finds how far back the message is as it was signed (RFC 8617, 5.2, step 5).
func (c *chain) oldestPass(ctx context.Context) int {
	for i := c.r.Highest - 1; i >= 1; i-- {
		if c.sets[i].signature.Weak() {
			return i + 1
		}
		if _, err := c.sets[i].signature.Verified(ctx, c.m, c.keys); err != nil {
			return i + 1
		}
	}
	return 0
}
