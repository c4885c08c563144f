#pragma once

namespace dcs3gd::app {

/// `dcs3gd-predict`: what a trained model says about photos, and the way out to other programs. Returns the exit code.
int run_predict_command(int argc, const char* const* argv);

}  // namespace dcs3gd::app
