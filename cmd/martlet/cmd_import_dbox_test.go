package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What stands in the way of reading a dbox is said before anything is tried.
func TestDboxRefusals(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	for _, d := range []string{"good/mailboxes", "plain", "odd:name/mailboxes"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir) // no doveadm
	for path, want := range map[string]string{
		good: "doveadm is not installed", filepath.Join(dir, "plain"): "is no dbox", filepath.Join(dir, "none"): "cannot read",
		filepath.Join(dir, "odd:name"): "cannot be told of a folder",
	} {
		if _, err := openDbox(nil, []string{path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	// A program that does not greet, but says why.
	if err := os.WriteFile(filepath.Join(dir, "doveadm"), []byte("#!/bin/sh\necho no such mail >&2\nexit 75\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if _, err := openDbox(nil, []string{good}); err == nil || !strings.Contains(err.Error(), "belongs to root") {
			t.Error(err)
		}
		if err := os.Chown(good, 65534, 65534); err != nil {
			t.Skip("mail cannot be given to another user here: ", err)
		}
	}
	if _, err := openDbox(nil, []string{good}); err == nil || !strings.Contains(err.Error(), "no such mail") {
		t.Error(err)
	}
}

// What root writes for Dovecot lies where the owner of the mail may write nothing.
func TestDboxFolderIsNotTheOwners(t *testing.T) {
	mail := t.TempDir()
	if os.Geteuid() == 0 {
		if err := os.Chown(mail, 65534, 65534); err != nil {
			t.Skip("mail cannot be given to another user here: ", err)
		}
	}
	d := dbox{path: mail, form: "sdbox"}
	dir := t.TempDir()
	file, home, err := d.prepare(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, file} {
		if uid, _ := folderOwner(name); uid != os.Geteuid() {
			t.Errorf("%s belongs to %d", name, uid)
		}
		if info, _ := os.Stat(name); info.Mode().Perm()&0o022 != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	owner, _ := folderOwner(mail)
	if uid, _ := folderOwner(home); uid != owner {
		t.Errorf("the home belongs to %d, want %d", uid, owner)
	}
	if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), "mail_home = "+home+"\n") {
		t.Errorf("%s %v", b, err)
	}
	// A link that is there already is not followed.
	dir = t.TempDir()
	target := filepath.Join(t.TempDir(), "passwd")
	if err := os.Symlink(target, filepath.Join(dir, "dovecot.conf")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.prepare(dir); err == nil {
		t.Error("a link was written through")
	}
	if _, err := os.Lstat(target); err == nil {
		t.Error("a link was followed")
	}
}
