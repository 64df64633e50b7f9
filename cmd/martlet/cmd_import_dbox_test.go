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
			t.Skip(err)
		}
	}
	if _, err := openDbox(nil, []string{good}); err == nil || !strings.Contains(err.Error(), "no such mail") {
		t.Error(err)
	}
}
