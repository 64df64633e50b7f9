//go:build unix

package main

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/martlet-mail/martlet/internal/conf"
)

// giveUpRoot makes the process that of the user whom the configuration names, for good, if
// it is root's. It comes after ports are bound and before the data folder is touched, so
// that everything in there is this user's: a command that root runs makes no file that
// the server could not write.
func giveUpRoot(cfg *conf.Config) error {
	if cfg.User == "" || os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup(cfg.User)
	if err != nil {
		return failed("there is no user %s on this machine, whom the key user names; make one: useradd --system --home-dir %s %s", cfg.User, cfg.Data, cfg.User)
	}
	uid, gid, groups, err := identity(u)
	if err != nil {
		return failed("cannot become user %s: %v", cfg.User, err)
	}
	if err := handOver(string(cfg.Data), uid, gid); err != nil {
		return err
	}
	// Groups first: afterwards it would not be allowed any more.
	err = errors.Join(syscall.Setgroups(groups), syscall.Setgid(gid), syscall.Setuid(uid))
	if err != nil {
		return failed("cannot become user %s: %v", cfg.User, err)
	}
	if uid != 0 && syscall.Setuid(0) == nil {
		return failed("the server became user %s and could still become root; it does not run like this", cfg.User)
	}
	ownProc()
	return nil
}

func identity(u *user.User) (uid, gid int, groups []int, err error) {
	uid, err = strconv.Atoi(u.Uid)
	if err != nil {
		return 0, 0, nil, err
	}
	if gid, err = strconv.Atoi(u.Gid); err != nil {
		return 0, 0, nil, err
	}
	ids, err := u.GroupIds()
	if err != nil {
		return 0, 0, nil, err
	}
	for _, id := range ids {
		n, err := strconv.Atoi(id)
		if err != nil {
			return 0, 0, nil, err
		}
		groups = append(groups, n)
	}
	return uid, gid, groups, nil
}

// handOver makes a data folder that is not there yet; one that is there must be the
// user's already: a whole tree of files is not to change hands unasked.
func handOver(data string, uid, gid int) error {
	info, err := os.Stat(data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return makeFor(data, uid, gid)
	case err != nil:
		return failed("cannot read the data folder %s: %v", data, err)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && int(s.Uid) != uid {
		return failed("the data folder %s is not that of the user whom the key user names; if it is to be: chown -R %d:%d %s", data, uid, gid, data)
	}
	return nil
}

// makeFor makes a user's folder in one that is there: who it belongs to further up is not
// ours to say.
func makeFor(data string, uid, gid int) error {
	err := os.Mkdir(data, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		return failed("the folder %s, which is to hold the data folder, is not there; make it so that user number %d may enter it: mkdir -p %s", filepath.Dir(data), uid, filepath.Dir(data))
	}
	if err == nil {
		err = os.Chown(data, uid, gid)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(data))
	}
	if err != nil {
		return failed("cannot make the data folder %s: %v", data, err)
	}
	return nil
}
