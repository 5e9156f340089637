package steps

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/installer/plan"
)

// File is one file of the payload, as it is to be below the prefix.
type File struct {
	Path      string         `json:"path"`           // with slashes
	Mode      uint32         `json:"mode,omitempty"` // permission bits
	Size      int64          `json:"size,omitempty"`
	Sum       string         `json:"sha256,omitempty"` // in hex
	Link      string         `json:"link,omitempty"`   // a symbolic link's target
	Component plan.Component `json:"component"`
	// Prefixed files name where they are: PrefixMark in them becomes the prefix.
	Prefixed bool `json:"prefixed,omitempty"`
	// Self is the running setup program, which is kept for repairing and removing.
	Self bool `json:"self,omitempty"`
}

// PrefixMark stands for the prefix in Prefixed files.
const PrefixMark = "@PREFIX@"

// Manifest lists what the payload holds.
type Manifest struct {
	Version string `json:"version"`
	Stamp   int64  `json:"stamp"` // when that version was made, in Unix seconds
	Files   []File `json:"files"`
}

// Names in the payload, which is a zip archive: the list, the wizard's program,
// and the files below filesDir.
const (
	ManifestName = "manifest.json"
	WizardName   = "hxen-setup-window"
	FilesDir     = "files/"
)

// Payload is what the setup program carries at its end, or has beside it in a
// file with the ending .payload.
type Payload struct {
	Manifest
	Sum  string // sha256 of the list, in hex
	self string // the setup program; empty if it does not carry the payload itself

	file io.Closer
	zip  *zip.Reader
	once sync.Once
	own  File // self, measured
	err  error
}

// OpenPayload opens the payload of the setup program at path. want is the sum of
// the list that this program was built for; what has another is refused. Only a
// program built without a sum takes any.
func OpenPayload(program, want string) (*Payload, error) {
	p, err := openZip(program)
	if err == nil {
		p.self = program
	} else if p, err = openZip(program + ".payload"); errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New(text.T("this setup program carries nothing to install; download it again"))
	}
	if err != nil {
		return nil, err
	}
	b, err := p.read(ManifestName)
	if err == nil {
		sum := sha256.Sum256(b)
		p.Sum = hex.EncodeToString(sum[:])
		if want != "" && p.Sum != want {
			err = errors.New(text.T("what this setup program carries is not what it was made with; download it again"))
		}
	}
	if err == nil {
		err = json.Unmarshal(b, &p.Manifest)
	}
	for _, f := range p.Files {
		if err == nil && !fs.ValidPath(f.Path) {
			err = fmt.Errorf("the payload's list has the path %q", f.Path)
		}
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func openZip(name string) (*Payload, error) {
	f, err := openShared(name)
	if err != nil {
		return nil, fmt.Errorf("open the payload: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open the payload: %w", err)
	}
	z, err := zip.NewReader(f, st.Size())
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open the payload %s: %w", name, err)
	}
	return &Payload{file: f, zip: z}, nil
}

// Close closes the payload's file.
func (p *Payload) Close() error { return p.file.Close() }

func (p *Payload) read(name string) ([]byte, error) {
	f, err := p.zip.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the payload: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("read the payload's %s: %w", name, err)
	}
	return b, nil
}

// Wizard opens the wizard's program; fs.ErrNotExist if there is none.
func (p *Payload) Wizard() (fs.File, error) { return p.zip.Open(WizardName) }

// For lists the files of the chosen components as they will be below prefix:
// sizes and sums are those of the result.
func (p *Payload) For(o plan.Options, prefix string) ([]File, error) {
	var out []File
	for _, f := range p.Files {
		if !o.Has(f.Component) {
			continue
		}
		switch {
		case f.Self && p.self == "":
			continue // a payload beside the program is not enough to repair from
		case f.Self:
			own, err := p.measure()
			if err != nil {
				return nil, err
			}
			f.Size, f.Sum = own.Size, own.Sum
		case f.Prefixed:
			b, err := p.read(FilesDir + f.Path)
			if err != nil {
				return nil, err
			}
			b = replacePrefix(b, prefix)
			sum := sha256.Sum256(b)
			f.Size, f.Sum = int64(len(b)), hex.EncodeToString(sum[:])
		}
		out = append(out, f)
	}
	return out, nil
}

func replacePrefix(b []byte, prefix string) []byte {
	return bytes.ReplaceAll(b, []byte(PrefixMark), []byte(prefix))
}

// measure finds the size and sum of the setup program itself, once.
func (p *Payload) measure() (File, error) {
	p.once.Do(func() {
		var r io.ReadCloser
		if r, p.err = os.Open(p.self); p.err != nil {
			return
		}
		defer r.Close()
		h := sha256.New()
		p.own.Size, p.err = io.Copy(h, r)
		p.own.Sum = hex.EncodeToString(h.Sum(nil))
	})
	return p.own, p.err
}

// copyTo writes one of For's files and fails if it is not what the list says.
func (p *Payload) copyTo(w io.Writer, f File, prefix string) error {
	h := sha256.New()
	n, err := p.copyAll(io.MultiWriter(w, h), f, prefix)
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); n != f.Size || got != f.Sum {
		return damaged(f)
	}
	return nil
}

func (p *Payload) copyAll(w io.Writer, f File, prefix string) (int64, error) {
	if f.Prefixed {
		b, err := p.read(FilesDir + f.Path)
		if err != nil {
			return 0, err
		}
		n, err := w.Write(replacePrefix(b, prefix))
		return int64(n), err
	}
	if f.Self {
		r, err := os.Open(p.self)
		if err != nil {
			return 0, fmt.Errorf("read the payload: %w", err)
		}
		defer r.Close()
		return io.Copy(w, r)
	}
	r, err := p.zip.Open(FilesDir + f.Path)
	if err != nil {
		return 0, damaged(f)
	}
	defer r.Close()
	return io.Copy(w, unpacking{r, f})
}

func damaged(f File) error {
	return errors.New(text.T("%s in the setup program is damaged; download it again", path.Base(f.Path)))
}

// unpacking says of whatever keeps a file from being unpacked that it is damaged:
// the archive's checksum, or data that no compressor writes.
type unpacking struct {
	r io.Reader
	f File
}

// Read implements io.Reader.
func (u unpacking) Read(b []byte) (int, error) {
	n, err := u.r.Read(b)
	if err != nil && err != io.EOF {
		err = damaged(u.f)
	}
	return n, err
}
