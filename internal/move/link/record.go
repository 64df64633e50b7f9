package link

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/json"
	"io"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
)

// Families of keys.
const (
	famRule   = 'l' // id -> rule
	famSecret = 's' // id -> what signs in, sealed
	famState  = 't' // id -> how it is going
	famLast   = 'n' // -> the last id given
)

// Kinds of records.
const (
	recRule   = 1
	recSecret = 2
	recState  = 3
	recLast   = 4
)

func key(family byte, id ID) []byte { return engine.Key(family, uint64(id)) }

func unseal(b []byte, want byte, what string) (*record.Dec, error) {
	kind, payload, err := record.Open(b)
	if err != nil {
		return nil, err
	}
	if kind > recLast {
		return nil, fault.Newf(fault.Unsupported, "a stored %s has the kind %d, which this program does not know; start a newer one", what, kind)
	}
	if kind != want {
		return nil, fault.Newf(fault.Corrupt, "a stored %s has the kind %d, which this server does not know", what, kind)
	}
	return &record.Dec{Rest: payload}, nil
}

func (r *Rule) encode() []byte {
	var e record.Enc
	e.U(uint64(r.Account))
	e.Str(r.Server.Protocol, r.Server.Security, r.Server.Host)
	e.U(uint64(r.Server.Port))
	e.Bool(r.Server.Insecure)
	e.Str(r.User, r.OAuth)
	e.U(uint64(len(r.Mailboxes)))
	e.Str(r.Mailboxes...)
	e.Str(r.Into)
	e.Bool(r.BothWays, r.FollowDeletes, r.DeleteAtSource)
	e.U(uint64(r.Poll / time.Second))
	e.I(seconds(r.Since))
	e.I(seconds(r.Created))
	return record.Seal(recRule, e)
}

func decodeRule(id ID, b []byte) (r Rule, err error) {
	d, err := unseal(b, recRule, "link")
	if err != nil {
		return r, err
	}
	r = Rule{ID: id, Account: mail.AccountID(d.U())}
	r.Server = Server{Protocol: d.Str(), Security: d.Str(), Host: d.Str(), Port: uint16(d.U()), Insecure: d.Bool()}
	r.User, r.OAuth = d.Str(), d.Str()
	for range d.Count() {
		r.Mailboxes = append(r.Mailboxes, d.Str())
	}
	r.Into = d.Str()
	r.BothWays, r.FollowDeletes, r.DeleteAtSource = d.Bool(), d.Bool(), d.Bool()
	r.Poll = time.Duration(min(d.U(), uint64(maxPoll/time.Second))) * time.Second
	r.Since, r.Created = moment(d.I()), moment(d.I())
	return r, d.End("link")
}

// seconds is a time in a record; the zero time is 0.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func moment(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return mail.BoundDate(time.Unix(n, 0)) // of others there is no JSON
}

// state is what is remembered of how a link is going.
type state struct {
	Pause    pause
	Failures int       // one after another
	Refusals int       // of the password, one after another
	Last     time.Time // it went well
	Next     time.Time // not to be tried before
	Error    string    // of the last run; "" if it went well
	Kind     fault.Kind
	Brought  int64 // messages, in all
	Refused  int64 // messages that could not be brought in the last run
	Why      string
}

// pause is why nothing is done.
type pause byte

const (
	notPaused pause = iota
	byAdmin
	needsPassword
	needsSignIn
)

func (s *state) encode() []byte {
	var e record.Enc
	e.Raw(byte(s.Pause))
	e.U(uint64(s.Failures))
	e.U(uint64(s.Refusals))
	e.I(seconds(s.Last))
	e.I(seconds(s.Next))
	e.Str(s.Error)
	e.U(uint64(s.Kind))
	e.I(s.Brought)
	e.I(s.Refused)
	e.Str(s.Why)
	return record.Seal(recState, e)
}

func decodeState(b []byte) (s state, err error) {
	d, err := unseal(b, recState, "state of a link")
	if err != nil {
		return s, err
	}
	s = state{Pause: pause(d.Byte()), Failures: int(min(d.U(), 1<<20)), Refusals: int(min(d.U(), 1<<20)), Last: moment(d.I()), Next: moment(d.I())}
	s.Error, s.Kind, s.Brought, s.Refused, s.Why = d.Str(), fault.Kind(d.U()), d.I(), d.I(), d.Str()
	return s, d.End("state of a link")
}

// seal encrypts what signs in, bound to its link: AES-256-GCM (RFC 5116, 5.2) with a nonce by
// chance. Moved to the record of another link, it is not opened.
func (l *Links) seal(id ID, account mail.AccountID, s Secret) ([]byte, error) {
	plain, err := json.Marshal(s)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "", err)
	}
	box, err := l.box()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, box.NonceSize())
	if _, err := io.ReadFull(l.opt.Random, nonce); err != nil {
		return nil, fault.Wrap(fault.Internal, "", err)
	}
	var e record.Enc
	e.Bytes(nonce)
	e.Bytes(box.Seal(nil, nonce, plain, bound(id, account)))
	return record.Seal(recSecret, e), nil
}

func (l *Links) unsealSecret(id ID, account mail.AccountID, b []byte) (s Secret, err error) {
	d, err := unseal(b, recSecret, "sign-in of a link")
	if err != nil {
		return s, err
	}
	nonce, sealed := d.Bytes(), d.Bytes()
	if err := d.End("sign-in of a link"); err != nil {
		return s, err
	}
	box, err := l.box()
	if err != nil {
		return s, err
	}
	if len(nonce) != box.NonceSize() {
		return s, fault.New(fault.Corrupt, "the sign-in of a link is sealed in an unknown way")
	}
	plain, err := box.Open(nil, nonce, sealed, bound(id, account))
	if err != nil {
		return s, fault.New(fault.Corrupt, "the sign-in of a link was sealed by another server, or for another link")
	}
	if err := json.NewDecoder(bytes.NewReader(plain)).Decode(&s); err != nil {
		return s, fault.New(fault.Corrupt, "the sign-in of a link cannot be read")
	}
	return s, nil
}

func (l *Links) box() (cipher.AEAD, error) {
	block, err := aes.NewCipher(l.opt.Key)
	if err == nil && len(l.opt.Key) != 32 {
		err = aes.KeySizeError(len(l.opt.Key))
	}
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "", err)
	}
	box, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "", err)
	}
	return box, nil
}

// bound is what a sealed secret belongs to.
func bound(id ID, account mail.AccountID) []byte {
	b := []byte("martlet link 1")
	b = binary.BigEndian.AppendUint64(b, uint64(id))
	return binary.BigEndian.AppendUint64(b, uint64(account))
}
