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

// spoolName is where a larger message waits.
const spoolName = side + "/spool.tmp"

// read takes a message in.
func (t *text) read(d Disk, r io.Reader) error {
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
		if err := t.keep(d, p); err != nil {
			return writing(spoolName, err)
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

func (t *text) keep(d Disk, p []byte) error {
	t.size += int64(len(p))
	if t.file == nil && t.size > inMemory {
		if err := mkdirs(d, side); err != nil {
			return err
		}
		f, err := d.OpenFile(spoolName, os.O_RDWR|os.O_CREATE|os.O_TRUNC, fileMode)
		if err != nil {
			return err
		}
		if err := d.Remove(spoolName); err != nil { // only the name
			f.Close()
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

// stored is how many bytes the message has in a file: with LF, or as it is.
func (t *text) stored() int64 {
	if t.raw {
		return t.size
	}
	return t.size - t.lines
}

// write writes the message with LF, or as it is.
func (t *text) write(w io.Writer) error {
	if t.raw {
		_, err := io.Copy(w, t.reader())
		return err
	}
	return withLF(w, t.reader())
}

// withLF copies what ends all lines in CRLF and writes LF.
func withLF(w io.Writer, r io.Reader) error {
	b := bufio.NewReaderSize(r, 64<<10)
	held := false // a CR that ended a piece
	for {
		p, err := b.ReadSlice('\n')
		if held && (len(p) == 0 || p[0] != '\n') {
			if _, err := w.Write([]byte{'\r'}); err != nil {
				return err
			}
		}
		held = false
		switch n := len(p); {
		case n >= 2 && p[n-1] == '\n' && p[n-2] == '\r':
			p = p[:n-1]
			p[n-2] = '\n'
		case n > 0 && p[n-1] == '\r' && err == bufio.ErrBufferFull:
			held, p = true, p[:n-1]
		}
		if _, err := w.Write(p); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		}
		if err != nil && err != bufio.ErrBufferFull {
			return err
		}
	}
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
