package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/certmagic"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/node"
)

// Certificates, with the account at the authority and proofs under way, lie in the data folder.
// Nodes that share a store have them there, so that any of them answers the authority, one at a
// time asks it, and all show the same key.

// acmeFolder is where they lie, in the data folder and among the shared files.
const acmeFolder = "acme"

// acmeStorage returns where certificates are kept.
func (h *house) acmeStorage(ctx context.Context) (certmagic.Storage, error) {
	folder := filepath.Join(string(h.cfg.Data), acmeFolder)
	files := h.node.Files()
	var err error
	if h.node.Shared() {
		err = shareFolder(ctx, files, folder)
	} else {
		err = keepFolder(ctx, files, folder)
	}
	if err != nil {
		return nil, err
	}
	if h.node.Shared() {
		return sharedFiles{files}, nil
	}
	return &certmagic.FileStorage{Path: folder}, nil
}

// sharedCertificate is the certificate of a name that the nodes have; nil if there is none.
func (h *house) sharedCertificate(ctx context.Context, name string) ([]byte, error) {
	files := h.node.Files()
	list, err := files.List(ctx, acmeFolder+"/certificates")
	if err != nil {
		return nil, err
	}
	for _, f := range list {
		if strings.HasSuffix(f.Name, "/"+name+"/"+name+".crt") {
			text, _, err := files.Read(ctx, f.Name)
			return text, err
		}
	}
	return nil, nil
}

// shareFolder takes over what a machine had for itself before it shared its store: another key
// would make what names it in the DNS wrong.
func shareFolder(ctx context.Context, files *node.Files, folder string) error {
	there, err := files.List(ctx, acmeFolder)
	if err != nil || len(there) > 0 {
		return err
	}
	return filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case !e.Type().IsRegular() || strings.HasSuffix(path, ".lock"):
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		_, err = files.Make(ctx, acmeFolder+"/"+filepath.ToSlash(name), data)
		return err
	})
}

// keepFolder is the way back: a store that was shared before brings them along.
func keepFolder(ctx context.Context, files *node.Files, folder string) error {
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	list, err := files.List(ctx, acmeFolder)
	if err != nil || len(list) == 0 {
		return err
	}
	made := folder + ".new" // all or none
	for _, f := range list {
		data, _, err := files.Read(ctx, f.Name)
		if err != nil {
			return err
		}
		path := filepath.Join(made, filepath.FromSlash(strings.TrimPrefix(f.Name, acmeFolder+"/")))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
	}
	return os.Rename(made, folder)
}

// sharedFiles are the files of all nodes as package certmagic wants them.
type sharedFiles struct{ files *node.Files }

var _ certmagic.Storage = sharedFiles{}

func fileName(key string) string { return strings.TrimSuffix(acmeFolder+"/"+key, "/") }

// missing makes errors what certmagic looks for.
func missing(err error) error {
	if fault.Is(err, fault.NotFound) {
		return errors.Join(err, fs.ErrNotExist)
	}
	return err
}

func (s sharedFiles) Lock(ctx context.Context, name string) error {
	return s.files.Lock(ctx, fileName(name))
}

func (s sharedFiles) Unlock(ctx context.Context, name string) error {
	return s.files.Unlock(ctx, fileName(name))
}

func (s sharedFiles) Store(ctx context.Context, key string, value []byte) error {
	return s.files.Write(ctx, fileName(key), value)
}

func (s sharedFiles) Load(ctx context.Context, key string) ([]byte, error) {
	data, _, err := s.files.Read(ctx, fileName(key))
	return data, missing(err)
}

func (s sharedFiles) Delete(ctx context.Context, key string) error {
	return s.files.Remove(ctx, fileName(key))
}

// Exists is true also while nobody can say.
func (s sharedFiles) Exists(ctx context.Context, key string) bool {
	_, err := s.Stat(ctx, key)
	return !errors.Is(err, fs.ErrNotExist)
}

func (s sharedFiles) List(ctx context.Context, folder string, recursive bool) (keys []string, err error) {
	list, err := s.files.List(ctx, fileName(folder))
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	add := func(key string) {
		if !seen[key] {
			seen[key] = true
			keys = append(keys, key)
		}
	}
	base := strings.TrimSuffix(folder, "/")
	for _, f := range list {
		rest := strings.TrimPrefix(f.Name, fileName(folder)+"/")
		parts := strings.Split(rest, "/")
		for i := range parts {
			if i > 0 && !recursive {
				break
			}
			add(strings.TrimPrefix(base+"/"+strings.Join(parts[:i+1], "/"), "/"))
		}
	}
	if len(list) == 0 {
		return nil, fs.ErrNotExist
	}
	return keys, nil
}

func (s sharedFiles) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	_, f, err := s.files.Read(ctx, fileName(key))
	if err == nil {
		return certmagic.KeyInfo{Key: key, Modified: f.Modified, Size: f.Size, IsTerminal: true}, nil
	}
	if !fault.Is(err, fault.NotFound) {
		return certmagic.KeyInfo{}, err
	}
	list, err := s.files.List(ctx, fileName(key))
	if err == nil && len(list) == 0 {
		err = fs.ErrNotExist
	}
	return certmagic.KeyInfo{Key: key}, err
}
