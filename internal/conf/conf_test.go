package conf

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/disk"
	"github.com/martlet-mail/martlet/internal/fault"
)

var update = flag.Bool("update", false, "rewrite the expected outputs in testdata")

// golden compares got with a file, or rewrites the file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", file, got, want)
	}
}

func show(t *testing.T, print func(w *strings.Builder) error) string {
	t.Helper()
	var b strings.Builder
	if err := print(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(found), err)
	}
	return found
}

// For each good file: the full and the short form are as recorded, and both read as
// the same configuration again.
func TestGood(t *testing.T) {
	for _, file := range files(t, "testdata/good/*.toml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Parse(file, text)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		full := show(t, func(b *strings.Builder) error { return c.Show(b) })
		short := show(t, func(b *strings.Builder) error { return c.Write(b) })
		base := strings.TrimSuffix(file, ".toml")
		golden(t, base+".show", full)
		golden(t, base+".short", short)
		again, err := Parse("short", []byte(short))
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Errorf("%s: the short form reads as %+v, %v", file, again, err)
		}
		again, err = Parse("show", []byte(full))
		if err != nil {
			t.Errorf("%s: what is shown is not a valid file: %v", file, err)
			continue
		}
		again.Queue.Smarthost.Password, again.Store.URL, again.Blobs.SecretKey = c.Queue.Smarthost.Password, c.Store.URL, c.Blobs.SecretKey
		if !reflect.DeepEqual(c, again) {
			t.Errorf("%s: what is shown reads as %+v, want %+v", file, again, c)
		}
		for _, secret := range []string{c.Queue.Smarthost.Password, c.Store.URL, c.Blobs.SecretKey} {
			if secret != "" && strings.Contains(full, secret) {
				t.Errorf("%s: a password is shown", file)
			}
		}
	}
}

// A connection string is shown without its passwords, and with all else.
func TestDiscreet(t *testing.T) {
	for text, want := range map[string]string{
		"postgres://martlet:pass@db/m":                         "postgres://martlet:********@db/m",
		"postgres://martlet:p@ss@h1:5432,h2:5433/m?sslmode=no": "postgres://martlet:********@h1:5432,h2:5433/m?sslmode=no",
		"postgres://db/m?user=a&password=pass&sslPassword=x":   "postgres://db/m?user=a&password=********&sslPassword=********",
		"postgres://martlet@db/m":                              "postgres://martlet@db/m",
		"postgres://db/m":                                      "postgres://db/m",
	} {
		if got := Discreet(text); got != want {
			t.Errorf("%s is shown as %s, want %s", text, got, want)
		}
	}
}

// An engine gets the memory that the file names, and else what is enough for it.
func TestMemory(t *testing.T) {
	const shared = "engine = \"postgres\"\nurl = \"postgres://db/m\"\n"
	for _, c := range []struct {
		text   string
		engine string
		want   int64
	}{
		{"", "pebble", 32 << 20},
		{shared, "postgres", 256 << 20},
		{shared, "pebble", 32 << 20}, // the other side of a copy
		{shared + `cache = "0"`, "postgres", 256 << 20},
		{shared + `cache = "1MiB"`, "postgres", 1 << 20},
		{`cache = "1GiB"`, "pebble", 1 << 30},
	} {
		cfg, err := Parse("memory", []byte("[store]\n"+c.text))
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.Store.Memory(c.engine); got != c.want {
			t.Errorf("%q: %s gets %d bytes, want %d", c.text, c.engine, got, c.want)
		}
	}
}

// For each bad file: every fault is found, with its line.
func TestBad(t *testing.T) {
	for _, file := range files(t, "testdata/bad/*.toml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Parse(filepath.Base(file), text)
		var faults Faults
		if !errors.As(err, &faults) || !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", file, err)
			continue
		}
		golden(t, strings.TrimSuffix(file, ".toml")+".faults", faults.Error()+"\n")
		if strings.Contains(faults.Error(), "hidden") {
			t.Errorf("%s: a fault tells a password: %v", file, faults)
		}
	}
}

// What is wrong with a connection string is found before anybody connects, and no password told.
func TestWrongDatabase(t *testing.T) {
	for text, want := range map[string]string{
		"postgres://u:hidden@h/d": "", "postgres://u:hid%23den@h1:5432,[::1]:5433/d?sslmode=disable&connect_timeout=3&target_session_attrs=read-write": "",
		"postgres:///d?host=/run/postgresql&application_name=a": "", "postgresql://u@h/d?sslmode=verify-full&sslrootcert=/etc/ca.pem&options=-cgeqo%3Doff": "",
		"postgres://u:hidden@h:42x/d": "port", "postgres://u:hidden@h:70000/d": "port", "postgres://u:hidden@h1:5432,h2:/d": "port",
		"postgres://u:hidden@h/d?sslmode=bogus": "disable, allow", "postgres://u:hidden@h/d?bogus=1": `"bogus" that is not known`, "postgres://u:hidden@h/d?ssl_mode=disable": `did you mean "sslmode"?`,
		"postgres://u:hidden%zz@h/d": "written as %25", "postgres://u:hidden@h/d%zz": "name of its database", "postgres://u:hidden@h/d?sslmode=%zz": "written as %25",
		"postgres://u:hidden@h/d?connect_timeout=soon": "number of seconds", "postgres://u:hidden@::1/d": "as [host]", "postgres://u:hidden@h,/d": "empty host", "postgres://u:hidden@h": "names no database",
		"postgres://u:x@h/d?sslmode=hidden": "sslmode",
	} {
		got := wrongDatabase(text)
		if (got == "") != (want == "") || !strings.Contains(got, want) || strings.Contains(got, "hidden") {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// Every key of the file has a meaning, in whole sentences, and a default.
func TestEveryKeyIsExplained(t *testing.T) {
	known := meanings()
	var walk func(path string, typ reflect.Type)
	walk = func(path string, typ reflect.Type) {
		for _, f := range fieldsOf(typ) {
			key := join(path, f.Tag.Get("toml"))
			meaning := known[typ.Name()+"."+f.Name]
			if len(meaning) < 20 || !strings.HasSuffix(meaning, ".") {
				t.Errorf("%s has the meaning %q", key, meaning)
			}
			if f.Tag.Get("toml") == "" {
				t.Errorf("%s.%s has no key", typ.Name(), f.Name)
			}
			inner := f.Type
			if inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			if isTable(inner) {
				walk(key, inner)
			} else if _, ok := f.Tag.Lookup("default"); !ok {
				t.Errorf("%s has no default", key)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
}

// What is written is read back as it was.
func TestWriteRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Default()
		c.Hostname = Hostname(rapid.StringMatching(`[a-z]{1,8}(\.[a-z0-9]{1,5}){0,2}`).Draw(t, "hostname"))
		c.Data = Path(rapid.StringMatching(`[a-zA-Z /"\\\t'#=é]{1,20}`).Draw(t, "data"))
		c.Queue.MaxAge = Duration(rapid.Int64Range(60_000, 1<<40).Draw(t, "age") * int64(time.Millisecond) / 1)
		c.Queue.DelayNotice = c.Queue.MaxAge / 2 / Duration(time.Millisecond) * Duration(time.Millisecond)
		c.Limits.MessageSize = Size(rapid.Int64Range(64<<10, 1<<50).Draw(t, "size"))
		c.Queue.AllowPrivate = rapid.Bool().Draw(t, "private")
		c.Queue.Smarthost.Host = "relay"
		c.Queue.Smarthost.Username = "me"
		c.Queue.Smarthost.Password = rapid.StringN(1, 20, 60).Draw(t, "password")
		if rapid.Bool().Draw(t, "nobody trusted") {
			c.Trusted = []netip.Prefix{}
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "listeners") {
			c.Listen = append(c.Listen, Listen{Protocol: "imap", Address: Address(fmt.Sprintf("[::1]:%d", 1000+i)), TLS: StartTLS, Legacy: i == 1, Proxies: []netip.Prefix{}})
		}
		var b strings.Builder
		if err := c.Write(&b); err != nil {
			t.Fatal(err)
		}
		got, err := Parse("x", []byte(b.String()))
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Fatalf("%v\n%s\n%+v\n%+v", err, b.String(), got, c)
		}
	})
}

func TestLoad(t *testing.T) {
	dir, files := t.TempDir(), disk.Files{FS: vfs.Default}
	path := filepath.Join(dir, "martlet.toml")
	if _, err := Load(files, path, dir); !fault.Is(err, fault.NotFound) {
		t.Errorf("no file: %v", err)
	}
	text := "[tls]\ncertificate = \"c.pem\"\nkey = \"/etc/k.pem\"\n[queue.smarthost]\nhost = \"r\"\nusername = \"u\"\npassword_file = \"pw\"\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(files, path, dir)
	if err != nil {
		t.Fatal(err)
	}
	want := [5]string{filepath.Join(dir, "data"), filepath.Join(dir, "c.pem"), "/etc/k.pem", filepath.Join(dir, "pw"), filepath.Join(dir, "data", "admin.sock")}
	got := [5]string{string(c.Data), string(c.TLS.Certificate), string(c.TLS.Key), string(c.Queue.Smarthost.PasswordFile), c.AdminSocket()}
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if _, err := c.Queue.Smarthost.Secret(files); err == nil {
		t.Error("a password from a file that is not there")
	}
	if err := os.WriteFile(filepath.Join(dir, "pw"), []byte("pass word\r\nrest"), 0o600); err != nil {
		t.Fatal(err)
	}
	if secret, err := c.Queue.Smarthost.Secret(files); secret != "pass word" || err != nil {
		t.Errorf("%q, %v", secret, err)
	}
	if err := os.WriteFile(path, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(files, path, dir); !fault.Is(err, fault.TooLarge) {
		t.Errorf("huge file: %v", err)
	}
}

func TestDuration(t *testing.T) {
	for _, c := range []struct {
		in, out string
		want    time.Duration
	}{
		{"0", "0", 0}, {"0s", "0", 0}, {"90s", "1m30s", 90 * time.Second}, {"1h30m", "1h30m", 90 * time.Minute},
		{"2w", "14d", 14 * 24 * time.Hour}, {"5d", "5d", 120 * time.Hour}, {"250ms", "250ms", 250 * time.Millisecond},
	} {
		var d Duration
		if err := d.UnmarshalText([]byte(c.in)); err != nil || time.Duration(d) != c.want || d.String() != c.out {
			t.Errorf("%s: %v %s, %v", c.in, time.Duration(d), d, err)
		}
	}
	for _, bad := range []string{"", "5", "m", "-5m", "5 m", "1.5h", "5y", "5m3", "00", "9999999999w", "300000w", "1m9999999999999h"} {
		if err := new(Duration).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestSize(t *testing.T) {
	for _, c := range []struct {
		in, out string
		want    int64
	}{
		{"0", "0B", 0}, {"50MB", "50MB", 50e6}, {"64MiB", "64MiB", 64 << 20}, {"64 mib", "64MiB", 64 << 20},
		{"1000KB", "1MB", 1e6}, {"1025", "1025B", 1025}, {"1TiB", "1TiB", 1 << 40},
	} {
		var s Size
		if err := s.UnmarshalText([]byte(c.in)); err != nil || int64(s) != c.want || s.String() != c.out {
			t.Errorf("%s: %d %s, %v", c.in, int64(s), s, err)
		}
	}
	for _, bad := range []string{"", "MB", "-1MB", "1.5MB", "5M", "99999999TB", "1 0MB", "50MBs"} {
		if err := new(Size).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestAddress(t *testing.T) {
	for _, good := range []string{":25", "127.0.0.1:143", "[::1]:993", "localhost:0", "mail.example.org:25"} {
		if err := new(Address).UnmarshalText([]byte(good)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "25", "localhost", "::1:25", ":65536", ":smtp", ":", "a b:25", "http://x:25", ":-1"} {
		if err := new(Address).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// Any text is either read, and then written and read again as the same, or has
// faults with lines that exist.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.toml", "testdata/bad/*.toml"} {
		found, _ := filepath.Glob(pattern)
		for _, file := range found {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(text))
		}
	}
	f.Add("[[listen]]\n[listen.x]\n[[listen.x.y]]\na = [[{b = 1}], 2]\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("f", []byte(text))
		if err != nil {
			var faults Faults
			if !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatal(err)
			}
			for _, f := range faults {
				if f.Line < 0 || f.Line > 1+strings.Count(text, "\n") || f.Problem == "" {
					t.Fatalf("%+v", f)
				}
			}
			return
		}
		var b strings.Builder
		if err := c.Write(&b); err != nil {
			t.Fatal(err)
		}
		again, err := Parse("f", []byte(b.String()))
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Fatalf("%v\n%s", err, b.String())
		}
	})
}
