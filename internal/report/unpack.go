package report

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"io"
	"path"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
)

// form is what a file is.
type form byte

const (
	noForm form = iota
	xmlForm
	jsonForm
)

// unpack opens an attachment by what it begins with, whatever it is called: XML or JSON, as
// it is, in gzip, or the first such file of a zip archive. What is packed twice is no report.
// Nothing is read ahead, so that whoever reads says how much that is.
func unpack(r io.Reader) (form, io.Reader, error) {
	in := bufio.NewReaderSize(r, 4<<10)
	head, _ := in.Peek(4)
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(in)
		if err != nil {
			return noForm, nil, fault.Wrap(fault.Invalid, "the attachment is no valid gzip file", err)
		}
		in = bufio.NewReaderSize(z, 4<<10)
	case bytes.HasPrefix(head, localFile):
		z, err := firstFile(in)
		if err != nil {
			return noForm, nil, err
		}
		in = bufio.NewReaderSize(z, 4<<10)
	}
	f, err := formOf(in)
	return f, in, err
}

// formOf looks at the first bytes that are no white space.
func formOf(in *bufio.Reader) (form, error) {
	if head, _ := in.Peek(3); bytes.Equal(head, []byte("\xef\xbb\xbf")) {
		_, _ = in.Discard(3)
	}
	for n := 1; n <= 256; n++ {
		head, err := in.Peek(n)
		if len(head) < n {
			return noForm, fault.Wrap(fault.Invalid, "the attachment is empty or cannot be unpacked", err)
		}
		switch head[n-1] {
		case ' ', '\t', '\r', '\n':
			continue
		case '<':
			_, err = in.Discard(n - 1)
			return xmlForm, err
		case '{':
			return jsonForm, nil
		}
		break
	}
	return noForm, fault.New(fault.Invalid, "the attachment is neither XML nor JSON")
}

// localFile begins the header of a file in a zip archive (APPNOTE, 4.3.7).
var localFile = []byte("PK\x03\x04")

// maxPassed is how many files of an archive are passed over before that with the report.
const maxPassed = 8

// firstFile finds the report in a zip archive by the headers in front of its files: the
// directory at its end, which can be made to look endless, is not read.
func firstFile(in *bufio.Reader) (io.Reader, error) {
	for range maxPassed {
		var h [30]byte
		if _, err := io.ReadFull(in, h[:]); err != nil || !bytes.HasPrefix(h[:], localFile) {
			break
		}
		flags, method := binary.LittleEndian.Uint16(h[6:]), binary.LittleEndian.Uint16(h[8:])
		size := int64(binary.LittleEndian.Uint32(h[18:]))
		name := make([]byte, binary.LittleEndian.Uint16(h[26:]))
		if _, err := io.ReadFull(in, name); err != nil {
			break
		}
		if _, err := io.CopyN(io.Discard, in, int64(binary.LittleEndian.Uint16(h[28:]))); err != nil {
			break
		}
		const encrypted, sizeFollows = 1, 8
		if flags&encrypted != 0 {
			return nil, fault.New(fault.Invalid, "the zip archive is encrypted")
		}
		switch ext := strings.ToLower(path.Ext(string(name))); {
		case ext != ".xml" && ext != ".json":
			if flags&sizeFollows != 0 {
				return nil, fault.New(fault.Invalid, "the zip archive begins with something that is no report")
			}
			if _, err := io.CopyN(io.Discard, in, size); err != nil {
				return nil, fault.Wrap(fault.Invalid, "the zip archive is cut short", err)
			}
			continue
		case method == 8:
			return flate.NewReader(in), nil
		case method == 0 && flags&sizeFollows == 0:
			return io.LimitReader(in, size), nil
		}
		return nil, fault.New(fault.Invalid, "the zip archive is packed in an unknown way")
	}
	return nil, fault.New(fault.Invalid, "the zip archive has no report in it")
}
