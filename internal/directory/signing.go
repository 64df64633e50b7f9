package directory

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Algorithms of signing keys, as the tag a= of a signature names them (RFC 6376, 3.3;
// RFC 8463, 3). A domain has a key of each: not every receiver knows the short one yet.
const (
	Ed25519 = "ed25519-sha256"
	RSA     = "rsa-sha256"
)

// signingAlgorithms, and what ends the selectors of their keys.
var signingAlgorithms = [...]struct{ name, suffix string }{{Ed25519, "-ed"}, {RSA, "-rsa"}}

// rsaBits is what RFC 8301, 3.2 asks of signers; longer keys do not fit into many providers'
// forms.
const rsaBits = 2048

// KeyState is where a signing key stands in its life.
type KeyState byte

// A key is published before it signs, and stays published until the mail that it signed has
// been verified everywhere.
const (
	KeyNext    KeyState = 1 + iota // to be in the DNS; signs nothing yet
	KeyActive                      // signs
	KeyRetired                     // signs nothing any more; must stay in the DNS
	KeyGone                        // to be taken out of the DNS; the private key is deleted
)

var keyStates = [...]string{"unknown", "next", "active", "retired", "gone"}

// String returns the state's name.
func (s KeyState) String() string {
	if int(s) >= len(keyStates) {
		return keyStates[0]
	}
	return keyStates[s]
}

// SigningKey is a key that signs, will sign or has signed mail of a domain (RFC 6376).
type SigningKey struct {
	Domain    string // in A-labels
	Selector  string
	Algorithm string // Ed25519 or RSA
	State     KeyState
	Signer    crypto.Signer // nil once it is gone

	// When it came into each state, and when it was first seen in the DNS; zero: not yet. Of
	// a key that is retired, Gone is when it may go.
	Created, Published, Activated, Retired, Gone time.Time
}

// goneKept is how long the selector of a key that is gone is remembered, so that its record
// can be found and taken out of the DNS.
const goneKept = 400 * 24 * time.Hour

// Signers returns the keys that sign mail of a domain now, one of each algorithm that it
// wants, the shorter first. A local domain that has no keys yet, since it was made by an earlier
// version, gets them. A domain that is not local, or that signs nothing, has none.
func (d *Directory) Signers(ctx context.Context, domain string) ([]SigningKey, error) {
	name := canonicalDomain(domain)
	generation := d.cache.now()
	if was, ok := lookup(&d.cache, &d.cache.signers, name); ok {
		return was, nil
	}
	if _, local, err := d.domain(ctx, name); err != nil || !local {
		return nil, err
	}
	settings, err := d.Settings(ctx, name)
	if err != nil || !settings.Sign {
		return nil, err
	}
	all, err := d.keys(ctx, name)
	if err == nil && (!has(all, Ed25519, KeyActive) || !has(all, RSA, KeyActive)) {
		all, err = d.MakeKeys(ctx, name)
		generation = d.cache.now()
	}
	if err != nil {
		return nil, err
	}
	var signers []SigningKey
	for _, alg := range signingAlgorithms {
		if settings.SignWith != "both" && !strings.HasPrefix(alg.name, settings.SignWith) {
			continue
		}
		if i := slices.IndexFunc(all, func(k SigningKey) bool { return k.State == KeyActive && k.Algorithm == alg.name }); i >= 0 {
			signers = append(signers, all[i])
		}
	}
	keep(&d.cache, &d.cache.signers, generation, name, signers)
	return signers, nil
}

// Keys returns all keys of a domain in order of selectors, also those that are gone.
// Faults: NotFound.
func (d *Directory) Keys(ctx context.Context, domain string) ([]SigningKey, error) {
	written, name, err := parseDomain(domain)
	if err != nil {
		return nil, err
	}
	if _, local, err := d.domain(ctx, name); err != nil {
		return nil, err
	} else if !local {
		return nil, fault.Newf(fault.NotFound, "domain %s is not one of this server", written)
	}
	return d.keys(ctx, name)
}

func (d *Directory) keys(ctx context.Context, name string) (all []SigningKey, err error) {
	err = d.eng.View(ctx, shard, func(r engine.Reader) error {
		all, err = readKeys(r, name)
		return err
	})
	return all, err
}

// MakeKeys sees to it that a domain has a key of each algorithm that signs, and returns all
// of its keys. One that is made here signs at once, published or not: a signature whose key
// is not found is as good as none (RFC 6376, 6.1). Faults: NotFound.
func (d *Directory) MakeKeys(ctx context.Context, domain string) ([]SigningKey, error) {
	return d.makeKeys(ctx, domain, KeyActive)
}

// NextKeys makes the keys that are to follow those of a domain, unless they are there, and
// returns all of its keys. Faults: NotFound.
func (d *Directory) NextKeys(ctx context.Context, domain string) ([]SigningKey, error) {
	return d.makeKeys(ctx, domain, KeyNext)
}

// makeKeys makes the keys that a domain lacks in a state. It takes its time outside of the
// commit: a long key is the work of a tenth of a second.
func (d *Directory) makeKeys(ctx context.Context, domain string, state KeyState) ([]SigningKey, error) {
	d.making.Lock()
	defer d.making.Unlock()
	all, err := d.Keys(ctx, domain)
	if err != nil {
		return nil, err
	}
	made := map[string]crypto.Signer{}
	for _, alg := range signingAlgorithms {
		if !has(all, alg.name, state) {
			if made[alg.name], err = newSigner(alg.name, d.opt.Rand); err != nil {
				return nil, err
			}
		}
	}
	if len(made) == 0 {
		return all, nil
	}
	now := d.keyTime()
	word, err := newWord(all, now, d.opt.Rand)
	if err != nil {
		return nil, err
	}
	return d.changeKeys(ctx, domain, func(name string, all []SigningKey) ([]SigningKey, error) {
		for _, alg := range signingAlgorithms {
			if made[alg.name] == nil || has(all, alg.name, state) {
				continue
			}
			k := SigningKey{Domain: name, Selector: word + alg.suffix, Algorithm: alg.name, State: state, Signer: made[alg.name], Created: now}
			if state == KeyActive {
				k.Activated = now
			}
			all = append(all, k)
		}
		return all, nil
	})
}

func has(all []SigningKey, algorithm string, state KeyState) bool {
	return slices.ContainsFunc(all, func(k SigningKey) bool { return k.State == state && k.Algorithm == algorithm })
}

func newSigner(algorithm string, random io.Reader) (crypto.Signer, error) {
	var key crypto.Signer
	var err error
	if algorithm == Ed25519 {
		_, key, err = ed25519.GenerateKey(random)
	} else {
		key, err = rsa.GenerateKey(random, rsaBits)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "", err)
	}
	return key, nil
}

// wordLetters are those of selectors: none that is taken for another, and no vowels, lest
// they make words.
const wordLetters = "bcdfghjkmnpqrstvwxz"

// newWord returns how the selectors of new keys begin: the month and five letters by chance,
// as in 202611kwqzt. A selector must never come again with another key, for the DNS may still
// have the first: not even if the domain was removed meanwhile, or brought back from a backup,
// and nobody remembers it.
func newWord(all []SigningKey, now time.Time, random io.Reader) (string, error) {
	for {
		var chance [5]byte
		if _, err := io.ReadFull(random, chance[:]); err != nil {
			return "", fault.Wrap(fault.Internal, "", err)
		}
		for i, c := range chance {
			chance[i] = wordLetters[int(c)%len(wordLetters)]
		}
		word := now.Format("200601") + string(chance[:])
		if !slices.ContainsFunc(all, func(k SigningKey) bool { return strings.HasPrefix(k.Selector, word+"-") }) {
			return word, nil
		}
	}
}

// Activate lets the next keys of a domain sign, and retires those that did. The caller knows
// that they are published. Faults: NotFound (also if there are none).
func (d *Directory) Activate(ctx context.Context, domain string) ([]SigningKey, error) {
	now := d.keyTime()
	return d.changeKeys(ctx, domain, func(name string, all []SigningKey) ([]SigningKey, error) {
		for i := range all {
			if k := &all[i]; k.State == KeyActive && has(all, k.Algorithm, KeyNext) {
				k.State, k.Retired, k.Gone = KeyRetired, now, now.Add(d.opt.KeepKeys)
			}
		}
		changed := false
		for i := range all {
			if k := &all[i]; k.State == KeyNext {
				k.State, k.Activated, changed = KeyActive, now, true
			}
		}
		if !changed {
			return nil, fault.Newf(fault.NotFound, "%s has no keys that could follow; make them: martlet domain rotate %s", name, name)
		}
		return all, nil
	})
}

// KeysSeen notes which keys of a domain were found in the DNS. A next key that is not one of
// them has to be seen anew: some servers may not have it when it comes back.
func (d *Directory) KeysSeen(ctx context.Context, domain string, selectors ...string) error {
	now := d.keyTime()
	_, err := d.changeKeys(ctx, domain, func(_ string, all []SigningKey) ([]SigningKey, error) {
		for i := range all {
			k := &all[i]
			seen := slices.Contains(selectors, k.Selector)
			switch {
			case seen && k.Published.IsZero():
				k.Published = now
			case !seen && k.State == KeyNext:
				k.Published = time.Time{}
			}
		}
		return all, nil
	})
	return err
}

// ExpireKeys deletes the private keys of a domain that are retired long enough, forgets those
// that have been gone for a year, and returns all of its keys.
func (d *Directory) ExpireKeys(ctx context.Context, domain string) ([]SigningKey, error) {
	now := d.opt.Now()
	return d.changeKeys(ctx, domain, func(_ string, all []SigningKey) ([]SigningKey, error) {
		for i := range all {
			if k := &all[i]; k.State == KeyRetired && !k.Gone.After(now) {
				k.State, k.Signer = KeyGone, nil
			}
		}
		return slices.DeleteFunc(all, func(k SigningKey) bool {
			return k.State == KeyGone && k.Gone.Add(goneKept).Before(now)
		}), nil
	})
}

// keyTime is the present time as records keep it.
func (d *Directory) keyTime() time.Time { return d.opt.Now().UTC().Truncate(time.Second) }

// changeKeys lets fn change the keys of a domain, in one commit; fn may run again. What
// changes nothing writes nothing.
func (d *Directory) changeKeys(ctx context.Context, domain string, fn func(name string, all []SigningKey) ([]SigningKey, error)) (now []SigningKey, err error) {
	_, name, err := parseDomain(domain)
	if err != nil {
		return nil, err
	}
	err = d.update(ctx, func(w engine.Writer) error {
		if _, err := needDomain(w, name); err != nil {
			return err
		}
		was, err := readKeys(w, name)
		if err != nil {
			return err
		}
		if now, err = fn(name, slices.Clone(was)); err != nil {
			return err
		}
		return writeKeys(w, was, now)
	})
	return now, err
}
