// Package outward takes an account out: into a folder of mbox files, of Maildir++ or of
// single messages (eml), and to any IMAP server. What is in a folder that was made here is
// read back, as the same account, by Folder.
//
// An export may be stopped at any moment, by a power cut too. Run again, it goes on: what is
// whole stays, a half message is taken away, what is new is added and flags that have
// changed are changed where the form has room for that. What was expunged at the account
// since stays in the folder. Nothing is written outside the folder, whatever a mailbox is
// called.
//
// A folder holds martlet-export.json (Manifest), and for each mailbox an index: a line of
// JSON for each message (Line), which is written once the message is durable.
//
// It opens nothing itself: the folder, the source and the connection to the other server are
// handed in.
//
// RFC 4155 (mbox), RFC 9051 (APPEND), RFC 6154 (roles); mboxrd, Maildir++ and Dovecot's
// files in a Maildir as their programs write them.
package outward

import (
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// Disk is the folder that is exported to; os.Root is one. Names are relative to it, with
// "/", and no name leads out of it.
type Disk interface {
	OpenFile(name string, flag int, perm os.FileMode) (*os.File, error)
	Mkdir(name string, perm os.FileMode) error
	Rename(from, to string) error
	Remove(name string) error
	Lstat(name string) (os.FileInfo, error)
	Chtimes(name string, accessed, modified time.Time) error
}

// Source is what is exported: a move.Source that tells UIDs and contents.
type Source interface {
	move.Source
	Subscriptions() []string           // names that are subscribed without a mailbox
	Next(move.Mailbox) (next mail.UID) // of a mailbox
}

// Modes of what is made: it is somebody's mail.
const (
	fileMode   = 0o600
	folderMode = 0o700
)

// writing says in words what a failure to write means.
func writing(name string, err error) error {
	var f *fault.Error
	switch {
	case err == nil || errors.As(err, &f):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.Wrap(fault.Unavailable, "the disk is full: "+name+" cannot be written; make room and run the same command again, it goes on", err)
	case errors.Is(err, os.ErrPermission):
		return fault.Wrap(fault.Denied, name+" may not be written by this user", err)
	}
	return fault.Wrap(fault.Unavailable, name+" cannot be written", err)
}

// mkdirs makes a folder and those above it.
func mkdirs(d Disk, name string) error {
	if name == "." || name == "" {
		return nil
	}
	info, err := d.Lstat(name)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fault.Newf(fault.Exists, "%s is there and no folder; export to an empty folder", name)
	case !errors.Is(err, os.ErrNotExist):
		return writing(name, err)
	}
	if err := mkdirs(d, path.Dir(name)); err != nil {
		return err
	}
	if err := d.Mkdir(name, folderMode); err != nil && !errors.Is(err, os.ErrExist) {
		return writing(name, err)
	}
	return syncFolder(d, path.Dir(name))
}

// syncFolder makes durable which names a folder has.
func syncFolder(d Disk, name string) error {
	f, err := d.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return writing(name, err)
	}
	return writing(name, errors.Join(f.Sync(), f.Close()))
}

// writeFile puts a file in the place of the one of its name, whole or not at all.
func writeFile(d Disk, name string, fill func(io.Writer) error) error {
	tmp := name + ".tmp"
	f, err := d.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return writing(tmp, err)
	}
	err = errors.Join(fill(f), f.Sync(), f.Close())
	if err == nil {
		err = d.Rename(tmp, name)
	}
	if err != nil {
		return writing(name, err)
	}
	return syncFolder(d, path.Dir(name))
}

// names returns what a folder holds; nothing if it is not there.
func names(d Disk, name string) ([]string, error) {
	f, err := d.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, writing(name, err)
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func there(d Disk, name string) (bool, error) {
	_, err := d.Lstat(name)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// local tells whether a name stays in the folder.
func local(name string) bool { return filepath.IsLocal(name) }
