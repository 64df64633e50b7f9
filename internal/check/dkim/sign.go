package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// The fields that are signed (RFC 6376, 5.4.1). Those of trace (Received, Return-Path,
// Authentication-Results, signatures) are not: they come and go on the way.
var (
	// Always are signed as often as they are there and once more: nobody can add one, though
	// there was none (RFC 6376, 8.15).
	always = []string{
		"from", "to", "cc", "subject", "date", "message-id", "reply-to", "in-reply-to", "references",
		"mime-version", "content-type", "content-transfer-encoding",
	}
	// Present are, if they are there at all: what lists and forwarders add to mail that has none
	// leaves the signature whole.
	present = []string{
		"sender", "content-disposition", "content-id", "content-description", "content-language", "content-location",
		"list-id", "list-help", "list-unsubscribe", "list-unsubscribe-post", "list-subscribe", "list-post", "list-owner", "list-archive",
		"auto-submitted", "disposition-notification-to", "feedback-id", "autocrypt", "openpgp", "tls-required",
		"tls-report-domain", "tls-report-submitter", // RFC 8460, 5.3
	}
	// Blocks are signed as often as they are there, not once more: each resending puts its own
	// in front (RFC 5322, 3.6.6).
	blocks = []string{"resent-date", "resent-from", "resent-sender", "resent-to", "resent-cc", "resent-message-id"}
)

// signedNames returns what h= is to list.
func (m *Message) signedNames() []string {
	names := make([]string, 0, 2*len(always))
	for _, name := range always {
		names = appendTimes(names, name, m.count(name)+1)
	}
	for _, name := range present {
		if n := m.count(name); n > 0 {
			names = appendTimes(names, name, n+1)
		}
	}
	for _, name := range blocks {
		names = appendTimes(names, name, m.count(name))
	}
	return names
}

func appendTimes(names []string, name string, n int) []string {
	for range n {
		names = append(names, name)
	}
	return names
}

// Layout is a kind of field that signs header and body.
type Layout struct {
	Field string      // its name
	Lead  [][2]string // tags that stand in front, with their values
	// Also are names of fields that are signed as often as they are there, beside those of
	// DKIM.
	Also []string
}

// Sign returns the DKIM-Signature fields for a message, one for each key, in the order of the
// keys. They go in front of it. header is the header with its empty line; body is read to
// its end, once for all keys.
//
// Faults: Invalid if the message must not be signed as it is: it has no From field or
// several, or it is not clear where its header ends; those of body; Internal if a key cannot sign.
func Sign(header []byte, body io.Reader, keys []Key, opt SignOptions) (fields []byte, err error) {
	return Layout{Field: "DKIM-Signature", Lead: [][2]string{{"v", "1"}}}.Sign(header, body, keys, opt)
}

// Sign is Sign for another kind of field.
func (l Layout) Sign(header []byte, body io.Reader, keys []Key, opt SignOptions) (fields []byte, err error) {
	if len(keys) == 0 {
		return nil, nil
	}
	m := NewMessage(header, nil)
	if err := m.signable(); err != nil {
		return nil, err
	}
	if !m.whole { // then nothing may follow
		if _, err := io.ReadFull(body, make([]byte, 1)); err == nil {
			return nil, errCut
		} else if err != io.EOF {
			return nil, err
		}
	}
	sum, err := sumOne(body, opt.Body)
	if err != nil {
		return nil, err
	}
	names := m.signedNames()
	for _, name := range l.Also {
		names = appendTimes(names, name, m.count(name))
	}
	if len(names) > maxSigned {
		return nil, fault.New(fault.Invalid, "the message has too many fields of one name to sign them")
	}
	signed := m.AppendFields(make([]byte, 0, len(header)+2<<10), opt.Header, names, Field{}) // and room for the signature
	for _, key := range keys {
		w := newWriter(l.Field)
		for _, tag := range l.Lead {
			w.tag(tag[0], tag[1])
		}
		w.tag("a", Algorithm(key.Signer)).tag("c", opt.Header.String()+"/"+opt.Body.String())
		w.tag("d", key.Domain).tag("s", key.Selector)
		if opt.Identity != "" {
			w.tag("i", opt.Identity)
		}
		w.time("t", opt.Now)
		if opt.Expire > 0 {
			w.time("x", opt.Now.Add(opt.Expire))
		}
		w.list("h", names).tag("bh", base64.StdEncoding.EncodeToString(sum))
		field, err := w.sign(signed, opt.Header, key, opt.Random)
		if err != nil {
			return nil, err
		}
		fields = append(fields, field...)
	}
	return fields, nil
}

// signable tells whether the message can be signed so that all understand the same by it.
func (m *Message) signable() error {
	switch n := m.count("from"); {
	case m.odd != nil:
		return m.odd
	case n == 0:
		return fault.New(fault.Invalid, "the message has no From field")
	case n > 1:
		return fault.New(fault.Invalid, "the message has more than one From field")
	}
	return nil
}

// SignField returns a field of tags that signs other fields: signed, which are canonical
// (relaxed), and itself. Tags a, d and s are added behind those given.
func SignField(name string, tags [][2]string, signed []byte, key Key, random io.Reader) ([]byte, error) {
	w := newWriter(name)
	for _, tag := range tags {
		w.tag(tag[0], tag[1])
	}
	w.tag("a", Algorithm(key.Signer)).tag("d", key.Domain).tag("s", key.Selector)
	return w.sign(signed, Relaxed, key, random)
}

func sumOne(r io.Reader, c Canon) ([]byte, error) {
	form := bodyForm{c, noLimit}
	sums, err := sumBodies(r, []bodyForm{form})
	if err != nil {
		return nil, err
	}
	return sums[form].hash.Sum(nil), nil
}

// maxLine is the length that lines of a signature should not pass, in bytes (RFC 5322, 2.1.1).
const maxLine = 78

// writer builds a field with a signature.
type writer struct {
	name string
	b    []byte
	line int // length of the line at hand
}

func newWriter(name string) *writer {
	return &writer{name, append(append(make([]byte, 0, 1<<10), name...), ':'), len(name) + 1}
}

// tag appends a tag, on a new line if it would not fit.
func (w *writer) tag(name, value string) *writer {
	w.word(" ", name, "=", value, ";")
	return w
}

// word appends parts that stay together, behind space or on a new line.
func (w *writer) word(space string, parts ...string) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if w.line+len(space)+n > maxLine && w.line > 1 {
		w.b = append(w.b, "\r\n\t"...)
		w.line = 1
	} else {
		w.b = append(w.b, space...)
		w.line += len(space)
	}
	for _, p := range parts {
		w.b = append(w.b, p...)
	}
	w.line += n
}

func (w *writer) time(name string, t time.Time) { w.tag(name, fmt.Sprint(t.Unix())) }

// list appends a tag with a list, folded at its colons.
func (w *writer) list(name string, items []string) *writer {
	for i, item := range items {
		end := ":"
		if i == len(items)-1 {
			end = ";"
		}
		if i == 0 {
			w.word(" ", name, "=", item, end)
		} else {
			w.word("", item, end)
		}
	}
	return w
}

// sign appends b=, a signature of these canonical fields and of this one, and returns the
// field whole.
func (w *writer) sign(signed []byte, c Canon, key Key, random io.Reader) ([]byte, error) {
	w.word(" ", "b=")
	own := Field{Name: strings.ToLower(w.name), Raw: append(w.b, "\r\n"...), Colon: len(w.name)}
	data := c.AppendField(signed, own) // behind it, where the next key's will be
	sig, err := key.sign(data[:len(data)-2], random)
	if err != nil {
		return nil, err
	}
	for b := base64.StdEncoding.EncodeToString(sig); b != ""; {
		n := min(len(b), max(maxLine-w.line, 0))
		if n == 0 {
			w.b, w.line = append(w.b, "\r\n\t"...), 1
			continue
		}
		w.b, w.line, b = append(w.b, b[:n]...), w.line+n, b[n:]
	}
	return append(w.b, "\r\n"...), nil
}

// sign signs data as its algorithm says: RSA the hash, by PKCS #1, 1.5; Ed25519 the hash as if
// it were the text (RFC 8463, 3).
func (k Key) sign(data []byte, random io.Reader) ([]byte, error) {
	digest := sha256.Sum256(data)
	how := crypto.SignerOpts(crypto.SHA256)
	if _, ok := k.Signer.Public().(ed25519.PublicKey); ok {
		how = crypto.Hash(0)
	}
	sig, err := k.Signer.Sign(random, digest[:], how)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "", err)
	}
	return sig, nil
}
