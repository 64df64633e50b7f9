package rfc822

import (
	"bytes"
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
)

// What a source that cannot go back keeps of a batch.
const (
	SpoolBatch  = 8 << 20   // bytes after which a batch is handed over
	spoolMemory = 16 << 20  // bytes that are kept in memory
	MaxMessage  = 512 << 20 // bytes of a message; of a longer one only the header is looked at
)

// Temp is a file for what does not fit in memory. *os.File is one.
type Temp interface {
	io.Writer
	io.ReaderAt
	io.Closer
	Truncate(size int64) error
	Seek(offset int64, whence int) (int64, error)
}

// Spool keeps what has been read of a stream until it is handed over: in memory, and what
// is longer in a file.
type Spool struct {
	NewTemp func() (Temp, error)
	mem     []byte
	file    Temp
	size    int64
}

// Len is how much is kept.
func (s *Spool) Len() int64 { return s.size }

func (s *Spool) Write(p []byte) (int, error) {
	// What has once gone into the file, goes there until Reset: its offsets follow on.
	if s.size > int64(len(s.mem)) || s.size+int64(len(p)) > spoolMemory {
		if s.file == nil {
			if err := s.spill(); err != nil {
				return 0, err
			}
		}
		n, err := s.file.Write(p)
		s.size += int64(n)
		if err != nil {
			return n, fault.Wrap(fault.Unavailable, "a message does not fit in the folder for temporary files", err)
		}
		return n, nil
	}
	s.mem = append(s.mem, p...)
	s.size += int64(len(p))
	return len(p), nil
}

func (s *Spool) spill() (err error) {
	if s.NewTemp == nil {
		return fault.New(fault.TooLarge, "a message is too long to be kept, and there is no folder for temporary files")
	}
	if s.file, err = s.NewTemp(); err != nil {
		return fault.Wrap(fault.Unavailable, "no temporary file can be made", err)
	}
	return nil
}

// Section returns what was kept from an offset on.
func (s *Spool) Section(from, size int64) io.Reader {
	var parts []io.Reader
	inMemory := int64(len(s.mem))
	if from < inMemory {
		n := min(size, inMemory-from)
		parts = append(parts, bytes.NewReader(s.mem[from:from+n]))
		from, size = from+n, size-n
	}
	if size > 0 {
		parts = append(parts, io.NewSectionReader(s.file, from-inMemory, size))
	}
	return io.MultiReader(parts...)
}

// Reset forgets all that is kept.
func (s *Spool) Reset() error {
	s.mem, s.size = s.mem[:0], 0
	if s.file == nil {
		return nil
	}
	if err := s.file.Truncate(0); err != nil {
		return err
	}
	_, err := s.file.Seek(0, io.SeekStart)
	return err
}

// Close gives the file back.
func (s *Spool) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
