package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const clusterPage = "../docs/cluster.md"

// archive runs the archive_command of patroni.yml on a file of WAL with this content.
func archive(t *testing.T, folder, content string) error {
	t.Helper()
	type file struct {
		Bootstrap struct {
			DCS struct {
				PostgreSQL struct{ Parameters map[string]any }
			}
		}
	}
	command, _ := document[file](t, "patroni.yml", read(t, "machines/patroni.yml")).Bootstrap.DCS.PostgreSQL.Parameters["archive_command"].(string)
	if !strings.Contains(command, "/var/backups/wal/") {
		t.Fatalf("%q", command)
	}
	segment := filepath.Join(t.TempDir(), "000000010000000000000001")
	if err := os.WriteFile(segment, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	command = strings.NewReplacer("/var/backups/wal", folder, "%p", segment, "%f", filepath.Base(segment)).Replace(command)
	return exec.Command("sh", "-c", command).Run()
}

// What is archived is archived once, nothing else takes its place, and a server that forgot
// in a crash that it has archived a file goes on.
func TestArchiveCommand(t *testing.T) {
	folder := t.TempDir()
	if err := archive(t, folder, "records"); err != nil {
		t.Fatal(err)
	}
	if err := archive(t, folder, "records"); err != nil {
		t.Error("the file that is there already, and the same, ends the archive: ", err)
	}
	if archive(t, folder, "others") == nil {
		t.Error("another server's file is taken for this one's")
	}
	kept, err := os.ReadDir(folder)
	if err != nil || len(kept) != 1 {
		t.Fatal(kept, err)
	}
	if text := read(t, filepath.Join(folder, kept[0].Name())); text != "records" {
		t.Errorf("what was archived became %q", text)
	}
	if archive(t, filepath.Join(folder, "nowhere"), "records") == nil {
		t.Error("WAL counts as archived, and is nowhere")
	}
}

// The steps of docs/cluster.md put the files of this folder where the others name them, on a
// machine that has what Debian's packages bring and nothing more.
func TestStepsInstallTheFiles(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(root+"/etc/patroni", 0o755); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(read(t, clusterPage)) {
		if step, ok := strings.CutPrefix(line, "    install "); ok {
			step, _, _ = strings.Cut(step, "#")
			step = strings.NewReplacer(" -o postgres", "", " /", " "+root+"/").Replace(step)
			cmd := exec.Command("sh", "-c", "install "+step)
			cmd.Dir = "machines"
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("install %s: %v\n%s", step, err, out)
			}
		}
	}
	for _, path := range []string{"/etc/etcd/etcd.yml", "/etc/patroni/config.yml", "/var/backups/wal"} {
		if _, err := os.Stat(root + path); err != nil {
			t.Error(err)
		}
	}
}
