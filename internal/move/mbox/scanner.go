package mbox

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"time"
)

// lookAhead is how far a Scanner looks ahead in what it cannot go back in.
const lookAhead = 1 << 20

// Scanner goes through an mbox file message by message. It is the reader of the message at
// which it stands: of its bytes as they are in the file, without the From_ line before and the
// empty line after it.
type Scanner struct {
	Offset int64     // where the message begins
	Date   time.Time // of its From_ line; zero if it has none
	From   string    // its From_ line
	Added  bool      // a line end is given at its end that the file has not
	Size   int64     // bytes read of it so far

	in      *bufio.Reader
	at      io.ReaderAt // the same file, if one can go to and fro in it
	lengths bool        // Content-Length counts
	pos     int64       // of the next byte of in
	out     []byte      // what is to be given next
	off     int
	held    []byte // an empty line that may be the one after the message
	left    int64  // bytes of a body whose length was told; -1: it was not
	length  int64  // of the Content-Length field; -1: none
	empty   bool   // the last line was empty, or there was none
	within  bool   // the last piece did not end its line
	body    bool
	ended   bool // the message is over
	begun   bool
	next    []byte // From_ line of the next message
	err     error
}

// NewScanner returns one that reads r. at may be the same file, to check lengths in; nil if
// there is none.
func NewScanner(r io.Reader, at io.ReaderAt, q Quoting) *Scanner {
	size := lookAhead
	if at != nil {
		size = 64 << 10
	}
	return &Scanner{in: bufio.NewReaderSize(r, size), at: at, lengths: q == CL || q == CL2, empty: true, ended: true, left: -1}
}

// Next goes to the next message. It returns false at the end of the file, and when it cannot
// be read: see Err.
func (s *Scanner) Next() bool {
	if !s.begun {
		s.begun = true
		if !s.first() {
			return false
		}
	}
	for !s.ended && s.err == nil {
		s.out, s.off = s.out[:0], 0
		s.fill()
	}
	if s.next == nil {
		return false
	}
	s.From = string(bytes.TrimRight(s.next, "\r\n"))
	_, s.Date, _, _ = fromLine(s.next)
	s.next = nil
	s.Offset, s.Size, s.Added = s.pos, 0, false
	s.out, s.off, s.held = s.out[:0], 0, s.held[:0]
	s.left, s.length = -1, -1
	s.empty, s.within, s.body, s.ended = true, false, false, false
	return true
}

// first skips empty lines before the first From_ line. A byte order mark is not mail.
func (s *Scanner) first() bool {
	if b, _ := s.in.Peek(3); bytes.Equal(b, []byte("\xef\xbb\xbf")) {
		_, _ = s.in.Discard(3)
		s.pos += 3
	}
	for {
		line, err := s.in.ReadSlice('\n')
		s.pos += int64(len(line))
		switch {
		case bytes.HasPrefix(line, []byte("From ")):
			s.next = bytes.Clone(line)
			return true
		case len(bytes.TrimSpace(line)) > 0:
			s.err = errNotMbox
			return false
		case err != nil:
			s.fail(err)
			return false
		}
	}
}

var errNotMbox = errors.New("the file does not begin with a From_ line")

// Err says why Next returned false; nil at the end of the file.
func (s *Scanner) Err() error { return s.err }

func (s *Scanner) fail(err error) {
	s.ended = true
	if err != io.EOF {
		s.err = err
	}
}

// Read gives the next bytes of the message.
func (s *Scanner) Read(p []byte) (int, error) {
	for s.off == len(s.out) {
		if s.ended {
			if s.err != nil {
				return 0, s.err
			}
			return 0, io.EOF
		}
		s.out, s.off = s.out[:0], 0
		s.fill()
	}
	n := copy(p, s.out[s.off:])
	s.off += n
	s.Size += int64(n)
	return n, nil
}

// fill takes in some lines of the message.
func (s *Scanner) fill() {
	for len(s.out) < 32<<10 && !s.ended {
		if s.left >= 0 {
			s.fillBody()
			continue
		}
		line, err := s.in.ReadSlice('\n')
		if !s.within && bytes.HasPrefix(line, []byte("From ")) && len(line) < maxFromLine && s.separator(&line) {
			return
		}
		s.pos += int64(len(line))
		s.take(line)
		if err != nil && err != bufio.ErrBufferFull {
			if err == io.EOF && s.within {
				s.out = append(s.out, '\n')
				s.Added = true
			}
			s.fail(err)
		}
	}
}

// separator tells whether a line is the next From_ line, which ends the message.
func (s *Scanner) separator(line *[]byte) bool {
	whole := bytes.Clone(*line) // what is peeked at may move it
	*line = whole
	ahead, _ := s.in.Peek(1 << 10)
	if _, ok := separates(whole, ahead, s.empty); !ok {
		return false
	}
	s.pos += int64(len(whole))
	s.next, s.ended = whole, true
	return true
}

// take adds a line, or a piece of one, to the message.
func (s *Scanner) take(line []byte) {
	if len(line) == 0 {
		return
	}
	begins := !s.within
	s.within = line[len(line)-1] != '\n'
	if !begins {
		s.out = append(s.out, line...)
		return
	}
	s.empty = len(line) == 1 && line[0] == '\n' || len(line) == 2 && line[0] == '\r' && line[1] == '\n'
	s.out = append(s.out, s.held...)
	s.held = s.held[:0]
	switch {
	case s.empty && s.body:
		s.held = append(s.held, line...)
		return
	case s.empty:
		s.out = append(s.out, line...) // told moves it
		s.body = true
		s.told()
		return
	case !s.body && s.lengths && s.length < 0:
		s.length = contentLength(line)
	}
	s.out = append(s.out, line...)
}

// contentLength reads a Content-Length field; -1 if it is none.
func contentLength(line []byte) int64 {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok || !bytes.EqualFold(name, []byte("Content-Length")) {
		return -1
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 62)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// told believes the length of the body if the message after it begins where it says.
func (s *Scanner) told() {
	if s.length < 0 {
		return
	}
	if s.at == nil {
		// A longer one cannot be checked.
		if s.length > lookAhead-(2<<10) {
			return
		}
		ahead, err := s.in.Peek(int(s.length) + 1<<10)
		if int64(len(ahead)) >= s.length && ends(ahead[s.length:], err != nil) {
			s.left = s.length
		}
		return
	}
	buf := make([]byte, 1<<10)
	n, err := s.at.ReadAt(buf, s.pos+s.length)
	if n == 0 && err == io.EOF && s.length > 0 { // at the end of the file, not beyond it
		if one, _ := s.at.ReadAt(buf[:1], s.pos+s.length-1); one == 0 {
			return
		}
	}
	if (err == nil || err == io.EOF) && ends(buf[:n], err == io.EOF) {
		s.left = s.length
	}
}

// ends tells whether a message can end before these bytes.
func ends(after []byte, atEnd bool) bool {
	for range 3 {
		if rest, ok := bytes.CutPrefix(after, []byte("\r\n")); ok {
			after = rest
		} else if rest, ok := bytes.CutPrefix(after, []byte("\n")); ok {
			after = rest
		}
	}
	if len(after) == 0 {
		return atEnd
	}
	line, next, ok := bytes.Cut(after, []byte("\n"))
	if !ok || !bytes.HasPrefix(line, []byte("From ")) {
		return false
	}
	_, ok = separates(line, next, true)
	return ok
}

// fillBody takes in some of a body whose length was told, or goes to the From_ line after it.
func (s *Scanner) fillBody() {
	if s.left > 0 {
		n := min(s.left, 32<<10)
		from := len(s.out)
		s.out = append(s.out, make([]byte, n)...)
		got, err := io.ReadFull(s.in, s.out[from:])
		s.out = s.out[:from+got]
		s.left -= int64(got)
		s.pos += int64(got)
		if err != nil {
			s.fail(io.EOF)
		}
		return
	}
	line, err := s.in.ReadSlice('\n')
	s.pos += int64(len(line))
	if bytes.HasPrefix(line, []byte("From ")) {
		s.next, s.ended = bytes.Clone(line), true
		return
	}
	if err != nil {
		s.fail(err)
	}
}
