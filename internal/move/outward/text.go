package outward

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"strings"

	"github.com/martlet-mail/martlet/internal/move"
)

// text is a message on its way, whole: in memory if it is small, else in a file that nobody
// is to find again. What it is like has been looked at.
type text struct {
	mem     bytes.Buffer
	file    *os.File
	size    int64
	content move.Content
	raw     bool  // its lines do not all end in CRLF, or LF would not tell how they do
	lines   int64 // LFs
	bare    int64 // LFs without CR before them
	open    bool  // the last line has no end
}

// inMemory is how much of a message is held in memory.
const inMemory = 1 << 20

// Spool makes a file for a larger message, which nobody is to find again: it has no name any
// more.
type Spool func() (*os.File, error)

// spoolOn makes them in a folder of an export.
func spoolOn(d Disk) Spool {
	const name = side + "/spool.tmp"
	return func() (*os.File, error) {
		if err := mkdirs(d, side); err != nil {
			return nil, err
		}
		f, err := d.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, fileMode)
		if err != nil {
			return nil, err
		}
		if err := d.Remove(name); err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	}
}

// read takes a message in.
func (t *text) read(spool Spool, r io.Reader) error {
	t.mem.Reset()
	t.close()
	*t = text{mem: t.mem}
	var hash move.Summer
	var last, before byte // of what was read so far
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		p := buf[:n]
		hash.Write(p)
		t.look(p, &last, &before)
		if err := t.keep(spool, p); err != nil {
			return writing("a file for a large message", err)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	t.open = t.size > 0 && last != '\n'
	t.content = hash.Content()
	return nil
}

// look counts lines and how they end.
func (t *text) look(p []byte, last, before *byte) {
	at := func(i int) byte { // a byte of p, or before it
		switch {
		case i >= 0:
			return p[i]
		case i == -1:
			return *last
		}
		return *before
	}
	for i := 0; ; i++ {
		k := bytes.IndexByte(p[i:], '\n')
		if k < 0 {
			break
		}
		i += k
		t.lines++
		switch {
		case at(i-1) != '\r':
			t.bare++
			t.raw = true
		case at(i-2) == '\r':
			t.raw = true // LF would be CR LF in the file, which is a line end, too
		}
	}
	switch n := len(p); {
	case n > 1:
		*before, *last = p[n-2], p[n-1]
	case n == 1:
		*before, *last = *last, p[0]
	}
}

func (t *text) keep(spool Spool, p []byte) error {
	t.size += int64(len(p))
	if t.file == nil && t.size > inMemory {
		f, err := spool()
		if err != nil {
			return err
		}
		t.file = f
		if _, err := f.Write(t.mem.Bytes()); err != nil {
			return err
		}
		t.mem.Reset()
	}
	if t.file != nil {
		_, err := t.file.Write(p)
		return err
	}
	t.mem.Write(p)
	return nil
}

// reader reads the message from its beginning.
func (t *text) reader() io.Reader {
	if t.file != nil {
		return io.NewSectionReader(t.file, 0, t.size)
	}
	return bytes.NewReader(t.mem.Bytes())
}

func (t *text) close() {
	if t.file != nil {
		t.file.Close()
		t.file = nil
	}
}

// length is how many bytes the message has in a file: with LF, or as it is.
func (t *text) length() int64 {
	if t.raw {
		return t.size
	}
	return t.size - t.lines
}

// stored reads the message with LF, or as it is.
func (t *text) stored() io.Reader {
	if t.raw {
		return t.reader()
	}
	return newLF(t.reader())
}

// write writes it so.
func (t *text) write(w io.Writer) error {
	_, err := io.Copy(w, t.stored())
	return err
}

// lf gives lines that all end in CRLF with LF.
type lf struct {
	r    io.Reader
	buf  []byte
	have []byte
	held bool // a CR that ended what was read
	err  error
}

func newLF(r io.Reader) *lf { return &lf{r: r, buf: make([]byte, 32<<10)} }

func (c *lf) Read(p []byte) (int, error) {
	for len(c.have) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		c.fill()
	}
	n := copy(p, c.have)
	c.have = c.have[n:]
	return n, nil
}

// fill reads more and takes the CRs out, in place.
func (c *lf) fill() {
	at := 0
	if c.held {
		c.buf[0], at, c.held = '\r', 1, false
	}
	n, err := c.r.Read(c.buf[at:])
	c.err = err
	in := c.buf[:at+n]
	if len(in) > 0 && in[len(in)-1] == '\r' && err == nil {
		in, c.held = in[:len(in)-1], true
	}
	out := c.buf[:0]
	for {
		k := bytes.Index(in, []byte("\r\n"))
		if k < 0 {
			break
		}
		out = append(append(out, in[:k]...), '\n')
		in = in[k+2:]
	}
	c.have = append(out, in...)
}

// crlf gives lines that end in LF CRLF: what withLF has written is again as it was.
type crlf struct {
	r    *bufio.Reader
	have []byte
	err  error
}

func newCRLF(r io.Reader) *crlf { return &crlf{r: bufio.NewReaderSize(r, 32<<10)} }

func (c *crlf) Read(p []byte) (int, error) {
	for len(c.have) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		piece, err := c.r.ReadSlice('\n')
		if n := len(piece); n > 0 && piece[n-1] == '\n' {
			c.have = append(append(c.have[:0:0], piece[:n-1]...), '\r', '\n')
		} else {
			c.have = bytes.Clone(piece)
		}
		if err != bufio.ErrBufferFull {
			c.err = err
		}
	}
	n := copy(p, c.have)
	c.have = c.have[n:]
	return n, nil
}

// messageID returns the id of the first Message-ID field without its brackets, as the client
// of IMAP (imapc) reads it; "" if there is none.
func (t *text) messageID() string {
	head := make([]byte, min(t.size, 256<<10))
	n, _ := io.ReadFull(t.reader(), head)
	var field []byte
	for line := range bytes.Lines(head[:n]) {
		folded := line[0] == ' ' || line[0] == '\t'
		if len(bytes.TrimRight(line, "\r\n")) == 0 || field != nil && !folded {
			break
		}
		name, _, ok := bytes.Cut(line, []byte(":"))
		if field != nil || ok && bytes.EqualFold(bytes.TrimRight(name, " \t"), []byte("message-id")) {
			field = append(field, line...)
		}
	}
	_, v, _ := strings.Cut(string(field), ":")
	if i := strings.IndexByte(v, '<'); i >= 0 {
		if j := strings.IndexByte(v[i:], '>'); j > 0 {
			v = v[i+1 : i+j]
		}
	}
	v = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(v, "?")))
	if len(v) > 998 {
		return ""
	}
	return v
}
