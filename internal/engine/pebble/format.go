package pebble

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"strings"

	db "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/fault"
)

// format is the version of everything in the folder: the layout of keys and blobs here and
// the records of the layers above. It rises when an earlier version could not read what
// this one writes; what earlier versions wrote is read as it is.
//
//	1  up to deleted mail that is kept, as sort keys, marks and briefs came to be
//	2  checksums in the headers of blobs; kinds of records that 1 does not know
const format = 2

// formatName is a file with one line: the format, who wrote it, and a checksum of the line
// so far. It is read before the database is opened, so that a version that is too old
// changes nothing. The number is also in the database, where versions before 2 look.
const formatName = "format"

func formatLine(number int, writer string) []byte {
	line := fmt.Sprintf("%d %s", number, writer)
	return fmt.Appendf(nil, "%s %08x\n", line, crc32.Checksum([]byte(line), castagnoli))
}

// parseFormat reads the line; ok is false if it is damaged.
func parseFormat(line string) (number int, writer string, ok bool) {
	if _, err := fmt.Sscan(line, &number); err != nil {
		return 0, "", false
	}
	_, writer, _ = strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	writer = writer[:max(0, strings.LastIndexByte(writer, ' '))]
	return number, writer, string(formatLine(number, writer)) == line
}

// mayRead refuses a folder that a newer version has written.
func mayRead(files vfs.FS, dir string) error {
	line, err := readWhole(files, files.PathJoin(dir, formatName))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if number, writer, ok := parseFormat(string(line)); ok && number > format {
		return newer(number, "by "+writer)
	}
	return nil // if it is damaged the database knows the number
}

func newer(number int, writer string) error {
	return fault.Newf(fault.Unsupported, "the data directory was written %s, in format %d, and this version reads up to %d; nothing was changed: use the version that wrote it, or a newer one", writer, number, format)
}

// checkFormat reads the number in the database, and raises it and the file's.
func (e *Engine) checkFormat() error {
	had, err := formatOf(e.db)
	if err != nil {
		return e.failed(err)
	}
	if had > format {
		return newer(had, "by a newer version")
	}
	if had < format {
		if err := e.failed(e.db.Set(formatKey(), []byte{format}, db.Sync)); err != nil {
			return err
		}
	}
	return e.sign()
}

func formatKey() []byte { return append([]byte{spaceMeta}, "format"...) }

// formatOf reads the number in a database, 0 if there is none.
func formatOf(d *db.DB) (int, error) {
	v, closer, err := d.Get(formatKey())
	if errors.Is(err, db.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer closer.Close()
	if len(v) != 1 {
		return 0, fault.New(fault.Corrupt, "the number of the format of the data directory is damaged")
	}
	return int(v[0]), nil
}

// sign writes the file, if it does not say the same already.
func (e *Engine) sign() error {
	path, line := e.disk.PathJoin(e.dir, formatName), formatLine(format, e.opt.Writer)
	if have, err := readWhole(e.disk.FS, path); err == nil && string(have) == string(line) {
		return nil
	}
	var failure error
	e.disk.witnessed(func() error {
		failure = replaceFile(e.disk.FS, e.dir, formatName, line)
		return failure
	})
	if failure != nil {
		return e.failed(failure)
	}
	return nil
}

// replaceFile writes a small file anew: it has the old content or the new one, whatever happens.
func replaceFile(fs vfs.FS, dir, name string, content []byte) error {
	path := fs.PathJoin(dir, name)
	f, err := fs.Create(path+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(fs, dir)
}
