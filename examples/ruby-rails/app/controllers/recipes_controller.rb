class RecipesController < ApplicationController
  before_action { @recipe = Recipe.new(params.permit(:people)) }

  def index
  end

  def show
    if @recipe.valid?
      render json: { people: @recipe.people, ingredients: @recipe.ingredients }
    else
      render json: { errors: @recipe.errors.full_messages }, status: :bad_request
    end
  end
end
