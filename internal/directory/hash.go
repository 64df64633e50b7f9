package directory

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/argon2"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
	"github.com/martlet-mail/martlet/internal/turn"
)

// Argon is the cost of one argon2id hash (RFC 9106, 3.1).
type Argon struct {
	MemoryKiB uint32
	Passes    uint32
	Lanes     uint8
}

const (
	saltLen = 16
	keyLen  = 32

	maxArgonKiB = 1 << 20 // of a stored hash; more was not written by us
	maxWaiting  = 256     // password checks that wait for memory
)

// hasher computes argon2id under one bound on memory, so that a flood of logins
// makes logins wait and not the machine swap.
type hasher struct {
	cost    Argon
	slots   chan struct{} // one for each hash at a time
	several chan struct{} // held by the one who is about to take several of them
	waiting atomic.Int64
	ran     atomic.Int64 // hashes computed, for tests and metrics
	rand    io.Reader
	dummy   string // hash of nothing anybody can type
}

func newHasher(opt Options) (*hasher, error) {
	slots := max(1, opt.PasswordMemory/(int64(opt.Argon.MemoryKiB)<<10))
	h := &hasher{cost: opt.Argon, slots: make(chan struct{}, min(slots, 1024)), several: make(chan struct{}, 1), rand: opt.Rand}
	random := make([]byte, saltLen+keyLen)
	if _, err := io.ReadFull(opt.Rand, random); err != nil {
		return nil, fault.Wrap(fault.Internal, "", err)
	}
	h.dummy = encodePHC(opt.Argon, random[:saltLen], random[saltLen:])
	return h, nil
}

// enter waits for memory to hash in. Too many waiting already is Limited.
func (h *hasher) enter(ctx context.Context) error {
	if h.waiting.Add(1) > maxWaiting {
		h.waiting.Add(-1)
		return errTooMany()
	}
	defer h.waiting.Add(-1)
	work := turn.Of(ctx)
	work.Rest()
	defer work.Return() // at once: everybody waits for this memory
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func errTooMany() error {
	return fault.New(fault.Limited, "too many logins at the same time, try again")
}

func (h *hasher) leave(places int) {
	for range places {
		<-h.slots
	}
}

// make returns the PHC string of a prepared password.
func (h *hasher) make(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltLen)
	if _, err := io.ReadFull(h.rand, salt); err != nil {
		return "", fault.Wrap(fault.Internal, "", err)
	}
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer h.leave(1)
	return encodePHC(h.cost, salt, h.run(h.cost, password, salt, keyLen)), nil
}

// check compares a prepared password with a PHC string. An empty one stands for no
// such login: the same work is done, and the answer is no.
func (h *hasher) check(ctx context.Context, phc, password string) (bool, error) {
	real := phc != ""
	if !real {
		phc = h.dummy
	}
	cost, salt, want, err := decodePHC(phc)
	if err != nil {
		return false, err
	}
	if err := h.enter(ctx); err != nil {
		return false, err
	}
	defer h.leave(1)
	got := h.run(cost, password, salt, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1 && real, nil
}

func (h *hasher) run(c Argon, password string, salt []byte, n uint32) []byte {
	h.ran.Add(1)
	return argon2.IDKey([]byte(password), salt, c.Passes, c.MemoryKiB, c.Lanes, n)
}

// encodePHC writes a hash as the argon2 reference program does.
func encodePHC(c Argon, salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		c.MemoryKiB, c.Passes, c.Lanes, b64.EncodeToString(salt), b64.EncodeToString(key))
}

// decodePHC reads it back, within bounds.
func decodePHC(phc string) (c Argon, salt, key []byte, err error) {
	var version int
	var rest string
	bad := fault.New(fault.Corrupt, "a stored password hash does not have its form")
	n, err := fmt.Sscanf(phc, "$argon2id$v=%d$m=%d,t=%d,p=%d$%s", &version, &c.MemoryKiB, &c.Passes, &c.Lanes, &rest)
	if err != nil || n != 5 || version != argon2.Version {
		return c, nil, nil, bad
	}
	if c.Passes == 0 || c.Passes > 100 || c.Lanes == 0 || c.MemoryKiB > maxArgonKiB {
		return c, nil, nil, bad
	}
	s, k, _ := strings.Cut(rest, "$")
	salt, err1 := base64.RawStdEncoding.DecodeString(s)
	key, err2 := base64.RawStdEncoding.DecodeString(k)
	if err1 != nil || err2 != nil || len(salt) < 8 || len(key) < 16 {
		return c, nil, nil, bad
	}
	return c, salt, key, nil
}

// setCredentials makes everything that is kept of a password.
func (d *Directory) setCredentials(ctx context.Context, rec *accountRecord, password string) error {
	rec.scram = map[string]sasl.Keys{}
	if password == "" {
		return nil
	}
	password, err := sasl.PreparePassword(password)
	if err != nil {
		return err
	}
	if rec.hash, err = d.hashes.make(ctx, password); err != nil {
		return err
	}
	for _, mech := range scramMechanisms {
		salt := make([]byte, saltLen)
		if _, err := io.ReadFull(d.opt.Rand, salt); err != nil {
			return fault.Wrap(fault.Internal, "", err)
		}
		if rec.scram[mech], err = sasl.DeriveKeys(mech, password, salt, d.opt.ScramIterations); err != nil {
			return err
		}
	}
	return nil
}
