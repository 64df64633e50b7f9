package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const accountList = `username,password,name,active
anna@old.test,{SHA512-CRYPT}$6$ap7R6H8ppI5Ar6Aj$gi8I9kFFnpzJO.1AYavS8.nhB4LpGKk6L0cWp8DjwSrcoe9eLUGxRVrsZQUijH3nWOpdi9aF0PDdri7M8J9DO0,Anna,1
bert@old.test,{DES-CRYPT}8CRXWF0oaD2yc,Bert,1
carl@old.test,,Carl,1
dora@old.test,Gänseblümchen,Dora,1
eva@old.test,x,Eva,0
fritz@elsewhere.test,{SHA}b+EBB60C2GpM+87U5kr1zSBlavQ=,Fritz,1
`

// A list makes accounts whose hashes are kept, tells what it cannot do, and may be given again.
func TestAccountImport(t *testing.T) {
	cfg := newConfig(t)
	run := func(want int, args ...string) ran {
		t.Helper()
		r := command(t, "", append(args, "--config", cfg)...)
		if r.code != want {
			t.Fatalf("martlet %q: %d\n%s%s", args, r.code, r.out, r.err)
		}
		if strings.Contains(r.out+r.err, "Gänse") || strings.Contains(r.out+r.err, "$6$") || strings.Contains(r.out+r.err, "8CRXWF") {
			t.Errorf("martlet %q tells a secret: %s%s", args, r.out, r.err)
		}
		return r
	}
	run(0, "domain", "add", "old.test")
	list := filepath.Join(t.TempDir(), "users.csv")
	if err := os.WriteFile(list, []byte(accountList), 0o644); err != nil {
		t.Fatal(err)
	}
	r := run(1, "account", "import", list, "--plan", "--json")
	if !strings.Contains(r.err, "others can read") || !strings.Contains(r.out, `{"summary":{"create":2,"refuse":3,"skip":1}}`) {
		t.Errorf("%s%s", r.out, r.err)
	}
	if out := run(0, "account", "list").out; strings.Contains(out, "anna") {
		t.Errorf("a plan made %s", out)
	}
	if err := os.Chmod(list, 0o600); err != nil {
		t.Fatal(err)
	}
	r = run(1, "account", "import", list, "--waiting", "--json")
	if strings.Contains(r.err, "others can read") || !strings.Contains(r.out, `{"summary":{"created":3,"refuse":2,"skip":1}}`) ||
		!strings.Contains(r.out, `{"address":"carl@old.test","status":"created","waiting":true,"line":4}`) || !strings.Contains(r.out, "DES-CRYPT are not taken") {
		t.Errorf("%s%s", r.out, r.err)
	}
	if r = run(1, "account", "import", list, "--waiting"); !strings.Contains(r.out, "exists: 3") {
		t.Errorf("again: %s", r.out)
	}
	shown := run(0, "account", "show", "anna@old.test", "--json").out + run(0, "account", "show", "carl@old.test", "--json").out + run(0, "account", "show", "dora@old.test", "--json").out
	for _, want := range []string{`"password_scheme":"SHA512-CRYPT","foreign":true`, `"password_scheme":"","waiting":true`, `"password_scheme":"argon2id","mailboxes"`} {
		if !strings.Contains(shown, want) {
			t.Errorf("%s lacks %s", shown, want)
		}
	}
	run(0, "verify")
	shadow := filepath.Join(t.TempDir(), "shadow")
	if err := os.WriteFile(shadow, []byte("gerd:$y$j9T$Bi5DCYvBj1wPULAa8/UA91$N3FaSMLqK83uymI0yNq2aaXlZjyvArSWRBln/sVWDO5:19000:::::\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r = run(0, "account", "import", shadow, "--domain", "old.test"); !strings.Contains(r.out, "YESCRYPT") {
		t.Error(r.out)
	}
	if r = command(t, "{DES-CRYPT}8CRXWF0oaD2yc", "account", "passwd", "gerd@old.test", "--hash-stdin", "--config", cfg); r.code != 1 || !strings.Contains(r.err, "DES-CRYPT") {
		t.Errorf("%d %s", r.code, r.err)
	}
	if r = command(t, "", "account", "passwd", "gerd@old.test", "--hash-stdin", "--config", cfg); r.code != 2 {
		t.Errorf("%d %s", r.code, r.err)
	}
	if r = command(t, "{SHA}b+EBB60C2GpM+87U5kr1zSBlavQ=\n", "account", "passwd", "gerd@old.test", "--hash-stdin", "--config", cfg); r.code != 0 || !strings.Contains(r.out, "(SHA)") {
		t.Errorf("%d %s", r.code, r.err)
	}
}
