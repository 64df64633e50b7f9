package smtp

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
)

// ReadLine reads a line and returns it without CRLF, valid until r is used again.
// max counts CRLF. Only CRLF ends a line (RFC 5321, 2.3.8).
//
// Faults: TooLarge for a line over max, and Invalid for one with a bare CR, a bare
// LF or a NUL; in both cases the line has been read up to its LF and the session
// may go on. Limited for a line whose end is nowhere near: close the connection.
// Other errors are those of r; io.EOF inside a line is io.ErrUnexpectedEOF.
func ReadLine(r *bufio.Reader, max int) ([]byte, error) {
	line, err := readToLF(r, max)
	if err != nil {
		return nil, err
	}
	if n := len(line); n < 2 || line[n-2] != '\r' {
		return nil, fault.New(fault.Invalid, "lines must end in CRLF")
	}
	line = line[:len(line)-2]
	if bytes.IndexByte(line, '\r') >= 0 || bytes.IndexByte(line, 0) >= 0 {
		return nil, fault.New(fault.Invalid, "line has a bare CR or a NUL")
	}
	return line, nil
}

// readToLF returns the bytes up to and with LF.
func readToLF(r *bufio.Reader, max int) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err == nil && len(line) <= max {
		return line, nil
	}
	var all []byte
	for errors.Is(err, bufio.ErrBufferFull) && len(all)+len(line) <= max {
		all = append(all, line...)
		line, err = r.ReadSlice('\n')
	}
	n := len(all) + len(line)
	switch {
	case n > max && (err == nil || errors.Is(err, bufio.ErrBufferFull)):
		return nil, skipLine(r, err)
	case err == nil:
		return append(all, line...), nil
	case err == io.EOF && n > 0:
		return nil, io.ErrUnexpectedEOF
	}
	return nil, err
}

// skipLine reads on to the end of a line that is too long. err is that of the last
// ReadSlice.
func skipLine(r *bufio.Reader, err error) error {
	for n := 0; errors.Is(err, bufio.ErrBufferFull); {
		var part []byte
		part, err = r.ReadSlice('\n')
		if n += len(part); n > maxSkip {
			return fault.New(fault.Limited, "line without an end")
		}
	}
	if err != nil && err != io.EOF {
		return err
	}
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return fault.New(fault.TooLarge, "line is too long")
}
