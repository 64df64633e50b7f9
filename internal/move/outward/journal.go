package outward

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
)

// errOthers tells that a file has mail which another program has put there.
var errOthers = errors.New("mail of another program")

// journal is a file beside an mbox file: from where on it is being written. What lies behind
// that and in no index is half an export. All else that is in the file and in no index is not ours.
type journal struct {
	d    Disk
	name string
	f    *os.File
	from int64 // -1: nothing is being written
	on   bool  // from is that of the batch at hand
}

func journalName(e *Entry) string { return strings.TrimSuffix(e.Index, ".jsonl") + ".writing" }

// read reads what an earlier export has left.
func (j *journal) read() error {
	j.from = -1
	f, err := j.d.OpenFile(j.name, os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return writing(j.name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return writing(j.name, err)
	}
	if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil {
		j.from = n
	}
	return nil
}

// begin notes, before the first byte of a batch, where it begins.
func (j *journal) begin(at int64) error {
	if j.on {
		return nil
	}
	j.on = true
	return j.put(at)
}

// settled says that what was begun is durable: its lines come into the index next.
func (j *journal) settled() { j.on = false }

// end notes that nothing is being written any more.
func (j *journal) end() error {
	if j.from < 0 {
		return nil
	}
	return j.put(-1)
}

// put writes a number over the one that is there.
func (j *journal) put(from int64) error {
	if j.f == nil {
		if err := mkdirs(j.d, path.Dir(j.name)); err != nil {
			return err
		}
		f, err := j.d.OpenFile(j.name, os.O_WRONLY|os.O_CREATE, fileMode)
		if err != nil {
			return writing(j.name, err)
		}
		j.f = f
		if err := syncFolder(j.d, path.Dir(j.name)); err != nil {
			return err
		}
	}
	if _, err := j.f.WriteAt(fmt.Appendf(nil, "%20d\n", from), 0); err != nil {
		return writing(j.name, err)
	}
	j.from = from
	return writing(j.name, j.f.Sync())
}

func (j *journal) close() {
	if j.f != nil {
		j.f.Close()
	}
}

// wrote tells whether what lies in an mbox file between two places is what an export had begun to
// write: it is known to have been writing there, and each message is one of its own, the last
// perhaps not whole.
func (j *journal) wrote(f io.ReaderAt, from, to int64, q Quoting) (bool, error) {
	if j.from < 0 || from < j.from {
		return false, nil
	}
	t := tail{r: bufio.NewReaderSize(io.NewSectionReader(f, from, to-from), 64<<10), lengths: q == QuoteCL2}
	ours, err := t.ours()
	if err != nil {
		return false, fault.Wrap(fault.Unavailable, "the mbox file cannot be read", err)
	}
	return ours, nil
}

const ourFrom = "From MAILER-DAEMON "

// tail is the end of an mbox file.
type tail struct {
	r       *bufio.Reader
	lengths bool // lines of bodies may begin with "From ": Content-Length says where one ends
}

// ours tells whether all messages are those of an export. Only the last may be cut off.
func (t *tail) ours() (bool, error) {
	start, header, known, length := true, false, false, int64(-1)
	for first := true; ; first = false {
		p, err := t.r.ReadSlice('\n')
		if len(p) > 0 && start {
			switch {
			case (first || known && !header) && err == io.EOF && bytes.HasPrefix([]byte(ourFrom), p): // the beginning of a From_ line
				return true, nil
			case first && !bytes.HasPrefix(p, []byte(ourFrom)):
				return false, nil
			case bytes.HasPrefix(p, []byte("From ")):
				if !bytes.HasPrefix(p, []byte(ourFrom)) || !first && !known {
					return false, nil
				}
				header, known, length = true, false, -1
			case header && isEmpty(p):
				if header = false; !known {
					return false, nil // another program's: ours have their UID in the header
				}
				if t.lengths && length >= 0 {
					if _, err := io.CopyN(io.Discard, t.r, length); err != nil {
						return err == io.EOF, noEOF(err)
					}
				}
			case header:
				known = known || bytes.HasPrefix(p, []byte("X-UID: "))
				if v, ok := bytes.CutPrefix(p, []byte("Content-Length: ")); ok && !known {
					if n, err := strconv.ParseInt(string(bytes.TrimSpace(v)), 10, 64); err == nil {
						length = n
					}
				}
			}
		}
		start = len(p) > 0 && p[len(p)-1] == '\n'
		if err == io.EOF {
			return true, nil
		}
		if err != nil && err != bufio.ErrBufferFull {
			return false, err
		}
	}
}

func noEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
