package link

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"io"
	"sync"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// A link to its own account would find what it has just brought as new mail, and bring it again.
// No name tells: one server has many, and addresses are translated on the way. So an IMAP source
// is told a mark of the account in ID (RFC 2971) once it is signed in to; the server that made the mark and is
// asked for this account's mail refuses. To all others it is a word by chance.

// Mark returns a new mark of an account.
func (l *Links) Mark(account mail.AccountID) (string, error) {
	b := make([]byte, 16, 16+sha256.Size)
	if _, err := io.ReadFull(l.opt.Random, b); err != nil {
		return "", fault.Wrap(fault.Internal, "", err)
	}
	return base64.RawURLEncoding.EncodeToString(append(b, l.mark(account, b)...)), nil
}

// Marks tells whether a mark was made of this account, by this server.
func (l *Links) Marks(account mail.AccountID, mark string) bool {
	b, err := base64.RawURLEncoding.DecodeString(mark)
	return err == nil && len(b) == 16+sha256.Size && hmac.Equal(b[16:], l.mark(account, b[:16]))
}

func (l *Links) mark(account mail.AccountID, nonce []byte) []byte {
	h := hmac.New(sha256.New, l.opt.Key)
	h.Write([]byte("martlet link mark 1"))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(account)))
	h.Write(nonce)
	return h.Sum(nil)
}

// often counts how often the same content was brought into an account lately. A ring of
// links, or of forwarding and links, brings a message again and again, each time as a new one;
// nobody else does that more than a few times. A nil often counts nothing.
type often struct {
	links int // of the account that are looked after; under the lock of Links

	mu    sync.Mutex
	times map[[8]byte]uint8
}

const (
	mostTimes = 4     // that one content is brought beyond what the first run brings
	mostOften = 5_000 // contents that are counted; then counting begins anew
	tooOften  = "the same message came again and again: links or forwarding seem to lead in a circle"
)

func (o *often) came(c move.Content) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.times == nil || len(o.times) >= mostOften {
		o.times = map[[8]byte]uint8{}
	}
	if k := [8]byte(c[:8]); o.times[k] < mostTimes {
		o.times[k]++
	}
}

func (o *often) enough(c move.Content) bool {
	if o == nil {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.times[[8]byte(c[:8])] >= mostTimes
}

// oftenOf returns what counts for an account; nil if no link of it is looked after.
func (l *Links) oftenOf(account mail.AccountID) *often {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.often[account]
}

// countsFor has it counted for an account with one link more or less. It needs the lock.
func (l *Links) countsFor(account mail.AccountID, n int) {
	o := l.often[account]
	if o == nil {
		o = new(often)
		l.often[account] = o
	}
	if o.links += n; o.links <= 0 {
		delete(l.often, account)
	}
}
