package desktop

import (
	_ "embed"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/theme"
)

//go:embed icons/hxen.svg
var iconBytes []byte

// Icon is HXEN's own picture.
var Icon fyne.Resource = fyne.NewStaticResource("hxen.svg", iconBytes)

var (
	//go:embed icons/power.svg
	powerBytes []byte
	//go:embed icons/shutdown.svg
	shutdownBytes []byte
	//go:embed icons/restart.svg
	restartBytes []byte
	//go:embed icons/screen.svg
	screenBytes []byte
	//go:embed icons/keyboard.svg
	keyboardBytes []byte
	//go:embed icons/disc.svg
	discBytes []byte
	//go:embed icons/camera.svg
	cameraBytes []byte
	//go:embed icons/more.svg
	moreBytes []byte
)

// Icons in the colour of the text, for what Fyne's set lacks.
var (
	iconPower    = themed("power", powerBytes)
	iconShutdown = themed("shutdown", shutdownBytes)
	iconRestart  = themed("restart", restartBytes)
	iconScreen   = themed("screen", screenBytes)
	iconKeyboard = themed("keyboard", keyboardBytes)
	iconDisc     = themed("disc", discBytes)
	iconCamera   = themed("camera", cameraBytes)
	iconMore     = themed("more", moreBytes)
)

func themed(name string, svg []byte) *theme.ThemedResource {
	return theme.NewThemedResource(fyne.NewStaticResource("hxen-"+name+".svg", svg))
}
