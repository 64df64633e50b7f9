package emlx

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"io"
	"io/fs"
	"mime"
	"path"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/move/rfc822"
)

// Bounds of a message that is put together again.
const (
	maxLevels = 32
	maxFields = 64 << 10 // bytes of a part's header
)

// rebuild reads a message and puts attachments where they were taken out: where a part's header says
// X-Apple-Content-Length and its body is empty, the file of the part's number is its body.
type rebuild struct {
	in      *bufio.Reader
	find    func(part string) io.ReadCloser // nil: it is not there
	missing *int
	levels  []level
	out     bytes.Buffer
	body    io.ReadCloser // of an attachment, which is encoded
	raw     []byte
	header  bytes.Buffer // of the part that is read
	within  bool         // a header
	passing bool         // what is in the place of an attachment
	tooLong bool
	err     error
}

// level is a multipart that is open.
type level struct {
	boundary string
	parts    int
}

func newRebuild(r io.Reader, find func(string) io.ReadCloser, missing *int) *rebuild {
	return &rebuild{in: bufio.NewReaderSize(r, 64<<10), find: find, missing: missing, within: true, raw: make([]byte, 57*512)}
}

// Read gives the next bytes.
func (b *rebuild) Read(p []byte) (int, error) {
	for b.out.Len() == 0 {
		if b.err != nil {
			return 0, b.err
		}
		b.next()
	}
	return b.out.Read(p)
}

// next takes in a line, or some of an attachment.
func (b *rebuild) next() {
	if b.body != nil {
		b.encode()
		return
	}
	line, err := b.in.ReadSlice('\n')
	if err != nil && err != bufio.ErrBufferFull {
		b.err = err
	}
	switch {
	case b.within:
		b.field(line)
	case len(line) > 2 && line[0] == '-' && line[1] == '-' && b.border(line):
		b.passing = false
		b.out.Write(line)
	case !b.passing:
		b.out.Write(line)
	}
	if b.err != nil && b.header.Len() > 0 {
		b.out.Write(b.header.Bytes())
		b.header.Reset()
	}
}

// field collects a header, and sees what it says when it is over.
func (b *rebuild) field(line []byte) {
	if b.tooLong || b.header.Len()+len(line) > maxFields {
		b.tooLong = true // nothing is done about this one
		b.out.Write(b.header.Bytes())
		b.header.Reset()
		b.out.Write(line)
		b.within = len(bytes.TrimRight(line, "\r\n")) > 0
		return
	}
	if len(bytes.TrimRight(line, "\r\n")) > 0 || len(line) == 0 {
		b.header.Write(line)
		return
	}
	b.within = false
	header := bytes.Clone(b.header.Bytes())
	b.header.Reset()
	end := bytes.Clone(line)
	h := rfc822.Glance(header, "content-type", "x-apple-content-length")
	kind, params, err := mime.ParseMediaType(h.Get("content-type"))
	switch {
	case err == nil && strings.HasPrefix(kind, "multipart/") && params["boundary"] != "" && len(b.levels) < maxLevels:
		b.levels = append(b.levels, level{boundary: params["boundary"]})
	case h.Has("x-apple-content-length"):
		if body := b.find(b.number()); body != nil {
			b.body, b.passing = body, true
			b.out.Write(without(header, "x-apple-content-length", "content-transfer-encoding"))
			b.out.WriteString("Content-Transfer-Encoding: base64\n")
			b.out.Write(end)
			return
		}
		*b.missing++
	}
	b.out.Write(header)
	b.out.Write(end)
}

// number is that of the part at hand: "2", or "1.2" within a multipart that is part 1.
func (b *rebuild) number() string {
	var n []string
	for _, l := range b.levels {
		n = append(n, strconv.Itoa(l.parts))
	}
	return strings.Join(n, ".")
}

// border tells whether a line is a boundary, and goes to the part behind it.
func (b *rebuild) border(line []byte) bool {
	text := string(bytes.TrimRight(line[2:], " \t\r\n"))
	for i := len(b.levels) - 1; i >= 0; i-- {
		switch text {
		case b.levels[i].boundary:
			b.levels = b.levels[:i+1]
			b.levels[i].parts++
			b.within, b.tooLong = true, false
			return true
		case b.levels[i].boundary + "--":
			b.levels = b.levels[:i]
			return true
		}
	}
	return false
}

// encode writes some of an attachment in lines of 76 characters (RFC 2045, 6.8).
func (b *rebuild) encode() {
	n, err := io.ReadFull(b.body, b.raw)
	for from := 0; from < n; from += 57 {
		b.out.WriteString(base64.StdEncoding.EncodeToString(b.raw[from:min(from+57, n)]))
		b.out.WriteByte('\n')
	}
	if err == nil {
		return
	}
	_ = b.body.Close()
	b.body = nil
	if err != io.EOF && err != io.ErrUnexpectedEOF {
		b.err = err
	}
}

// without returns a header without some fields.
func without(header []byte, names ...string) []byte {
	var out []byte
	drop := false
	for line := range bytes.Lines(header) {
		if line[0] != ' ' && line[0] != '\t' {
			name, _, _ := bytes.Cut(line, []byte(":"))
			drop = false
			for _, n := range names {
				drop = drop || strings.EqualFold(strings.TrimSpace(string(name)), n)
			}
		}
		if !drop {
			out = append(out, line...)
		}
	}
	return out
}

// attachments finds the files of a message: Attachments/NUMBER/PART/NAME, beside the folder
// Messages.
func (s *Source) attachments(name string) func(part string) io.ReadCloser {
	id, _, _ := strings.Cut(path.Base(name), ".")
	dir := path.Join(path.Dir(path.Dir(name)), "Attachments", id)
	return func(part string) io.ReadCloser {
		if part == "" {
			return nil
		}
		folder := path.Join(dir, part)
		list, err := fs.ReadDir(s.fsys, folder)
		if err != nil {
			return nil
		}
		for _, d := range list {
			if !d.Type().IsRegular() || strings.HasPrefix(d.Name(), ".") {
				continue
			}
			if f, _, err := rfc822.Open(s.fsys, path.Join(folder, d.Name())); err == nil {
				return f
			}
		}
		return nil
	}
}
