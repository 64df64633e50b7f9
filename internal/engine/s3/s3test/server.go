// Package s3test starts a real object store for tests, versitygw on a folder of its own, and a
// proxy that disturbs it.
//
// It builds nothing: bin/peers/versitygw is made by `make deps`. Without it tests are skipped, and
// fail where MARTLET_PEERS asks for all of them.
package s3test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// What a server is made with.
const (
	AccessKey = "martlet"
	SecretKey = "not a secret"
	Region    = "us-east-1"
	Bucket    = "bodies"
)

// Server is an object store on loopback with one bucket.
type Server struct {
	address string
	program string
	dir     string
	cmd     *exec.Cmd
	ended   chan struct{}
	out     bytes.Buffer
}

// Program returns the path of versitygw, or "" if it was not built.
func Program() string {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			path := filepath.Join(dir, "bin", "peers", "versitygw")
			if _, err := os.Stat(path); err == nil {
				return path
			}
			return ""
		}
		up := filepath.Dir(dir)
		if up == dir {
			return ""
		}
		dir = up
	}
	return ""
}

// Start starts a server, which is stopped and removed at the end of the test.
func Start(t testing.TB) *Server {
	t.Helper()
	program := Program()
	if program == "" {
		if os.Getenv("MARTLET_PEERS") != "" {
			t.Fatal("bin/peers/versitygw is not there: run make deps")
		}
		t.Skip("bin/peers/versitygw is not there: run make deps")
	}
	dir, err := os.MkdirTemp("", "martlet-s3-")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{address: l.Addr().String(), program: program, dir: dir}
	l.Close()
	t.Cleanup(func() {
		s.Kill()
		os.RemoveAll(dir)
	})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	client, err := minio.New(s.address, &minio.Options{Creds: credentials.NewStaticV4(AccessKey, SecretKey, ""), Region: Region})
	if err == nil {
		err = client.MakeBucket(context.Background(), Bucket, minio.MakeBucketOptions{Region: Region})
	}
	if err != nil {
		t.Fatalf("no bucket: %v\n%s", err, &s.out)
	}
	return s
}

// Start starts it again after Kill.
func (s *Server) Start() error {
	data := filepath.Join(s.dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	s.cmd = exec.Command(s.program, "--access", AccessKey, "--secret", SecretKey, "--region", Region, "--port", s.address, "--keep-alive", "--quiet", "posix", data)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.dir, &s.out, &s.out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	s.ended = ended
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(ended)
	}(s.cmd)
	for range 500 {
		if c, err := net.Dial("tcp", s.address); err == nil {
			return c.Close()
		}
		select {
		case <-ended:
			return fmt.Errorf("versitygw has ended: %s", &s.out)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("versitygw does not listen: %s", &s.out)
}

// Kill ends it at once.
func (s *Server) Kill() { s.signal(syscall.SIGKILL); <-s.ended }

// Freeze stops it until Thaw.
func (s *Server) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw lets it go on.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(sig)
	}
}

// URL is its address.
func (s *Server) URL() string { return "http://" + s.address }

// File is the file of an object.
func (s *Server) File(key string) string {
	return filepath.Join(s.dir, "data", Bucket, filepath.FromSlash(key))
}

// Age makes an object as old as if it had been put that long ago.
func (s *Server) Age(key string, by time.Duration) error {
	then := time.Now().Add(-by)
	return os.Chtimes(s.File(key), then, then)
}

// Keys returns the keys of all objects that begin with prefix.
func (s *Server) Keys(t testing.TB) (keys []string) {
	t.Helper()
	root := filepath.Join(s.dir, "data", Bucket)
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == ".sgwtmp" {
			return filepath.SkipDir
		}
		if err == nil && d.Type().IsRegular() {
			key, _ := filepath.Rel(root, path)
			keys = append(keys, filepath.ToSlash(key))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// Dial connects as a production server does.
func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, address)
}
