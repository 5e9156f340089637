package steps

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/hxen-project/hxen/app/text"
	"github.com/hxen-project/hxen/platform/access"
	"github.com/hxen-project/hxen/platform/paths"
)

// journalAccess lets administrators and the system write, and everybody read. What
// stands in the journal is taken back with an administrator's rights, and everybody
// may make folders in ProgramData.
const journalAccess = "D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FRFX;;;BU)"

// journalDir makes the folder of a journal; that of what was done as administrator
// only administrators may write to.
func (s *Setup) journalDir(dir string) (made []string, err error) {
	root := s.Host.at(paths.SetupDir("", ""))
	if dir != root && !strings.HasPrefix(dir, root+`\`) {
		return mkdirs(dir)
	}
	_, err = os.Lstat(root)
	var own []string
	if errors.Is(err, fs.ErrNotExist) {
		own, err = []string{root}, access.Make(root, journalAccess)
	} else if err == nil {
		err = access.Trusted(root)
		if errors.Is(err, access.ErrForeign) {
			err = errors.New(text.T("%s is somebody else's, who may want the setup to take back what was never done; remove it as administrator", root))
		}
	}
	if err != nil {
		return nil, err
	}
	made, err = mkdirs(dir)
	return append(made, own...), err
}
