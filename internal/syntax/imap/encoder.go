package imap

import (
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/internal/mail"
)

// Encoder appends IMAP syntax to a buffer that it takes from a pool. It writes to
// no socket: whoever owns it sends Bytes and calls Reset, and copies large literals
// to the socket itself after LiteralHeader.
type Encoder struct {
	// UTF8 says that the peer has enabled IMAP4rev2 or UTF8=ACCEPT: quoted strings
	// and mailbox names may then be UTF-8.
	UTF8 bool
	// Client writes literals as clients do that know LITERAL+: {n+}.
	Client bool

	b    []byte
	pool *[]byte
}

const (
	bufferStart = 4 << 10
	bufferKeep  = 256 << 10 // larger buffers are not kept for others
)

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, bufferStart); return &b }}

// NewEncoder returns an empty encoder. Release gives its buffer back.
func NewEncoder() *Encoder { return &Encoder{} }

func (e *Encoder) room() {
	if e.pool == nil {
		e.pool = buffers.Get().(*[]byte)
		e.b = (*e.pool)[:0]
	}
}

// Release gives the buffer back to the pool; the encoder is empty and takes another
// at the next write.
func (e *Encoder) Release() {
	if e.pool != nil && cap(e.b) <= bufferKeep {
		*e.pool = e.b[:0]
		buffers.Put(e.pool)
	}
	e.b, e.pool = nil, nil
}

// Bytes returns what was written since the last Reset, valid until the next write.
func (e *Encoder) Bytes() []byte { return e.b }

// Len returns how many bytes were written since the last Reset.
func (e *Encoder) Len() int { return len(e.b) }

// Buffer returns what was written since the last Reset, for appending to; SetBuffer then
// takes it back. Between the two nothing else may be written.
func (e *Encoder) Buffer() []byte {
	e.room()
	return e.b
}

// SetBuffer takes back what Buffer gave, with what was appended.
func (e *Encoder) SetBuffer(b []byte) { e.b = b }

// Reset empties the buffer and keeps it.
func (e *Encoder) Reset() { e.b = e.b[:0] }

// Truncate takes back what was written after the first n bytes.
func (e *Encoder) Truncate(n int) { e.b = e.b[:n] }

// Raw appends s as it stands: keywords, atoms known to be atoms, wire forms.
func (e *Encoder) Raw(s string) *Encoder {
	e.room()
	e.b = append(e.b, s...)
	return e
}

// RawBytes appends b as it stands.
func (e *Encoder) RawBytes(b []byte) *Encoder {
	e.room()
	e.b = append(e.b, b...)
	return e
}

// SP appends a space.
func (e *Encoder) SP() *Encoder { return e.Raw(" ") }

// CRLF ends the line.
func (e *Encoder) CRLF() *Encoder { return e.Raw("\r\n") }

// Number appends n in decimal.
func (e *Encoder) Number(n uint64) *Encoder {
	e.room()
	e.b = strconv.AppendUint(e.b, n, 10)
	return e
}

// SpaceNumber appends a space and n.
func (e *Encoder) SpaceNumber(n uint64) *Encoder {
	e.room()
	e.b = strconv.AppendUint(append(e.b, ' '), n, 10)
	return e
}

// String appends s as a quoted string if it may be one, else as a literal. A
// string with NUL, which no IMAP string can hold, loses it.
func (e *Encoder) String(s string) *Encoder {
	e.room()
	e.b = AppendString(e.b, s, e.UTF8, e.Client)
	return e
}

// AString appends s as an atom if it is one, else as String does.
func (e *Encoder) AString(s string) *Encoder {
	if isAtom(s) {
		return e.Raw(s)
	}
	return e.String(s)
}

// NString appends s as String does, or NIL.
func (e *Encoder) NString(s *string) *Encoder {
	if s == nil {
		return e.Raw("NIL")
	}
	return e.String(*s)
}

// Mailbox appends a mailbox name given in UTF-8: as it is if UTF8 is enabled, else
// in modified UTF-7 (RFC 9051, 5.1 and A.1).
func (e *Encoder) Mailbox(name string) *Encoder {
	if !e.UTF8 {
		name = EncodeUTF7(name)
	}
	if isAtom(name) && name != "NIL" {
		return e.Raw(name)
	}
	return e.String(name)
}

// LiteralHeader appends the announcement of a literal whose bytes the caller sends.
func (e *Encoder) LiteralHeader(size int64, binary bool) *Encoder {
	e.room()
	if binary {
		e.b = append(e.b, '~')
	}
	e.b = append(e.b, '{')
	e.b = strconv.AppendInt(e.b, size, 10)
	if e.Client {
		e.b = append(e.b, '+')
	}
	e.b = append(e.b, "}\r\n"...)
	return e
}

// UIDs appends a set; an empty one, which the grammar does not know, is nothing.
func (e *Encoder) UIDs(s mail.UIDSet) *Encoder {
	e.room()
	e.b = s.AppendText(e.b)
	return e
}

// DateTime appends t as a quoted date-time in its own zone (RFC 9051, 9).
func (e *Encoder) DateTime(t time.Time) *Encoder {
	e.room()
	e.b = AppendDateTime(e.b, t)
	return e
}

// AppendDateTime appends t as DateTime does. It is asked for by the hundred thousand, so
// the layout is not read anew for each.
func AppendDateTime(b []byte, t time.Time) []byte {
	year, month, day := t.Date()
	_, zone := t.Zone()
	if year < 1000 || year > 9999 || zone != 0 {
		return t.AppendFormat(b, `"_2-Jan-2006 15:04:05 -0700"`)
	}
	hour, minute, second := t.Clock()
	b = append(b, '"', ' ', byte('0'+day%10), '-')
	if day >= 10 {
		b[len(b)-3] = byte('0' + day/10)
	}
	b = append(append(b, month.String()[:3]...), '-')
	b = append(strconv.AppendInt(b, int64(year), 10), ' ')
	b = append(appendTwo(b, hour), ':')
	b = append(appendTwo(b, minute), ':')
	return append(appendTwo(b, second), " +0000\""...)
}

func appendTwo(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }

// AppendString appends s quoted, or as a literal if it holds what a quoted string
// cannot: line ends, 8-bit text that is not enabled or not UTF-8, or much of it.
func AppendString(b []byte, s string, utf8Enabled, client bool) []byte {
	const long = 4 << 10 // some clients read quoted strings into small buffers
	quotable, ascii, nul := len(s) <= long, true, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == 0:
			nul = true
		case c == '\r' || c == '\n':
			quotable = false
		case c >= 0x80:
			ascii = false
		}
	}
	if nul {
		return AppendString(b, withoutNUL(s), utf8Enabled, client)
	}
	if quotable && (ascii || utf8Enabled && utf8.ValidString(s)) {
		b = append(b, '"')
		for i := 0; i < len(s); i++ {
			if s[i] == '"' || s[i] == '\\' {
				b = append(b, '\\')
			}
			b = append(b, s[i])
		}
		return append(b, '"')
	}
	b = append(b, '{')
	b = strconv.AppendInt(b, int64(len(s)), 10)
	if client {
		b = append(b, '+')
	}
	b = append(b, "}\r\n"...)
	return append(b, s...)
}

func withoutNUL(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != 0 {
			b = append(b, s[i])
		}
	}
	return string(b)
}

func isAtom(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAtomChar(s[i]) {
			return false
		}
	}
	return s != ""
}
