class HealthController < ApplicationController
  def show
    render plain: "ok\n"
  end
end
