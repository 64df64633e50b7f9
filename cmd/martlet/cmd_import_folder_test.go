//go:build unix

package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/martlet-mail/martlet/internal/move/rfc822"
)

// A pipe in a folder of mail holds nobody up: to open one without the flag waits for a writer.
func TestSourceFolderDoesNotWait(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Skip("no pipe can be made here: ", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.mbox"), []byte("From a@b Mon Jan  5 10:00:00 2026\nSubject: x\n\nx\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := openSource("mbox", dir)
	if err != nil {
		t.Fatal(err)
	}
	defer p.folder.root.Close()
	f, err := p.folder.Open("pipe")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, _, err := rfc822.Open(p.folder, "pipe"); err == nil {
		t.Error("a pipe was taken for a file")
	}
	if _, _, err := rfc822.Open(p.folder, "a.mbox"); err != nil {
		t.Error(err)
	}
}

func TestPOP3URL(t *testing.T) {
	for text, want := range map[string]string{
		"pop3s://pop.example.net": "pop.example.net", "pop3://127.0.0.1:1110": "127.0.0.1", "pop3://[::1]:110": "::1",
		"imap://x": "", "pop3s://": "", "pop.example.net": "", "pop3s://u@h": "", "pop3s://h/x": "", "pop3://h:0": "", "pop3://h:99999": "",
	} {
		host, _, _, err := pop3URL(text)
		if host != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q %v", text, host, err)
		}
	}
}
