// Package rfc822 is what sources that are files have in common: a folder that nobody is led
// out of, a message's bytes as they are to be handed over, what a glance at its header tells,
// names for messages that have none, and handing them over in batches.
//
// It writes nothing and follows no link. It does not know in which files messages lie: that
// are the packages beside it (mbox, maildir, eml, emlx, takeout).
//
// RFC 5322, 2 (lines and fields).
package rfc822

import (
	"bufio"
	"bytes"
	"io"
)

// Form says in which form a message's bytes are handed over, besides that a line that ends in
// LF alone is given CRLF.
type Form struct {
	// Unquote says how many bytes to take away from the beginning of a line of the body; nil: none.
	Unquote func(line []byte) int
	// Drop tells of a field by its name, in lower case, whether it is left out; nil: none is.
	Drop func(name string) bool
}

// Reader reads a message in its form. It holds one buffer, however long a line is.
type Reader struct {
	Dropped int64 // bytes of fields that were left out, with their line ends
	src     *bufio.Reader
	form    Form
	buf     []byte // what is to be given next is buf[off:]
	off     int
	err     error
	body    bool // the header is over
	within  bool // the last piece did not end its line
	drop    bool // the field that is being read is left out
	last    byte // of the input
	header  []byte
}

const pieces = 32 << 10

// NewReader returns a reader of a message in the form.
func NewReader(raw io.Reader, form Form) *Reader {
	return &Reader{src: bufio.NewReaderSize(raw, pieces), form: form}
}

// Reset makes r read another message in the same form.
func (r *Reader) Reset(raw io.Reader) {
	r.src.Reset(raw)
	*r = Reader{src: r.src, form: r.form, buf: r.buf[:0], header: r.header[:0]}
}

// Header returns what was read of the header, at most MaxGlance bytes of it, with the fields
// that are left out. It is valid until Reset.
func (r *Reader) Header() []byte { return r.header }

// InBody tells whether the whole header has been read.
func (r *Reader) InBody() bool { return r.body }

// Read gives the next bytes.
func (r *Reader) Read(p []byte) (int, error) {
	for r.off == len(r.buf) {
		if r.err != nil {
			return 0, r.err
		}
		r.fill()
	}
	n := copy(p, r.buf[r.off:])
	r.off += n
	return n, nil
}

// fill takes in some lines.
func (r *Reader) fill() {
	r.buf, r.off = r.buf[:0], 0
	for len(r.buf) < pieces && r.err == nil {
		piece, err := r.src.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			r.err = err
		}
		r.take(piece)
	}
}

// take adds a line, or a piece of one, to what is given.
func (r *Reader) take(piece []byte) {
	if len(piece) == 0 {
		return
	}
	first, inHeader := !r.within, !r.body
	if first {
		r.begin(piece)
		if r.body && r.form.Unquote != nil {
			piece = piece[r.form.Unquote(piece):]
		}
	}
	if len(piece) == 0 {
		return
	}
	before := r.last
	if len(piece) > 1 {
		before = piece[len(piece)-2]
	}
	r.last = piece[len(piece)-1]
	r.within = r.last != '\n'
	addCR := !r.within && before != '\r'
	if first && len(piece) == 1 && !r.within { // an empty line: what was before it is of the line before
		addCR = true
	}
	if inHeader {
		r.keep(piece, addCR)
	}
	if r.drop {
		r.Dropped += int64(len(piece))
		if addCR {
			r.Dropped++
		}
		return
	}
	if !addCR {
		r.buf = append(r.buf, piece...)
		return
	}
	r.buf = append(r.buf, piece[:len(piece)-1]...)
	r.buf = append(r.buf, '\r', '\n')
}

// keep adds a line of the header to what Header returns.
func (r *Reader) keep(piece []byte, addCR bool) {
	if len(r.header)+len(piece)+1 > MaxGlance {
		return
	}
	r.header = append(r.header, piece...)
	if addCR {
		r.header = append(r.header[:len(r.header)-1], '\r', '\n')
	}
}

// begin sees the beginning of a line of the header: whether it ends it, and whether its
// field is left out.
func (r *Reader) begin(line []byte) {
	if r.body {
		return
	}
	if line[0] == '\n' || line[0] == '\r' && len(line) > 1 && line[1] == '\n' {
		// The empty line stays when a field before it goes.
		r.drop, r.body = false, true
		return
	}
	if line[0] == ' ' || line[0] == '\t' {
		return // goes on with the field before it
	}
	r.drop = false
	if r.form.Drop == nil {
		return
	}
	if name, _, ok := bytes.Cut(line, []byte(":")); ok && len(name) <= 64 {
		r.drop = r.form.Drop(lowerName(name))
	}
}

func lowerName(name []byte) string {
	return string(bytes.ToLower(bytes.TrimRight(name, " \t")))
}
